"""Small states in their row, queries in a column of their own, and no attempt to compress what does not compress.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = "of its state in the object store; NULL where the state is in this row"
_LONG = (("tasks", "payload"), ("tasks", "query"), ("results", "state"))
"""Mostly floats and pixels, which Postgres would try to compress each time, in vain."""

_OPEN = "status IN ('queued', 'running')"
_INLINE = "SELECT task_id FROM results WHERE object_key IS NULL"
_BACK = (
    # Older workers would answer without the query, as if none had been asked.
    f"""
WITH asked AS (
    UPDATE tasks SET status = 'failed', finished_at = now(), payload = NULL, failure = jsonb_build_object(
        'code', 'unavailable', 'message', 'the service went back to an older version; send it again', 'param', NULL)
    WHERE {_OPEN} AND query IS NOT NULL
    RETURNING adapted_model_id)
UPDATE adapted_models SET fingerprint = NULL WHERE id IN (SELECT adapted_model_id FROM asked)""",  # noqa: S608 (our own words)
    # What was adapted from a support that is still there is adapted again, by the older worker.
    f"""
UPDATE tasks SET status = 'queued', attempt = 0, worker = NULL, started_at = NULL, finished_at = NULL
WHERE id IN ({_INLINE}) AND NOT background AND payload IS NOT NULL
    AND id IN (SELECT task_id FROM adapted_models WHERE deleted_at IS NULL AND state_erased_at IS NULL)""",  # noqa: S608
    # The others expire, and the sweep erases them.
    f"""
UPDATE adapted_models SET expires_at = now(), pinned = false, fingerprint = NULL
WHERE task_id IN ({_INLINE}) AND task_id NOT IN (SELECT id FROM tasks WHERE status = 'queued')""",  # noqa: S608
    "DELETE FROM results WHERE object_key IS NULL",
)


def upgrade() -> None:
    op.add_column(
        "tasks",
        sa.Column(
            "query",
            sa.LargeBinary(),
            nullable=True,
            comment="contracts.tasks.Payload of the query that came with the support; NULL once answered, and without",
        ),
    )
    op.add_column(
        "results",
        sa.Column("state", sa.LargeBinary(), nullable=True, comment="a small state itself; NULL in the object store"),
    )
    op.alter_column(
        "results",
        "object_key",
        existing_type=sa.Text(),
        nullable=True,
        comment=_KEY,
        existing_comment=None,
    )
    for table, column in _LONG:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """States that lie in rows cannot be said in the older tables: their models are adapted again, or expire."""
    for statement in _BACK:
        op.execute(statement)
    op.alter_column(
        "results",
        "object_key",
        existing_type=sa.Text(),
        nullable=False,
        comment=None,
        existing_comment=_KEY,
    )
    op.drop_column("results", "state")
    op.drop_column("tasks", "query")
    op.execute("ALTER TABLE tasks ALTER COLUMN payload SET STORAGE EXTENDED")
