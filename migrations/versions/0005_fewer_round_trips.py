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
_NUMBERS = (("tasks", "payload"), ("tasks", "query"), ("results", "state"))
"""Columns of floats and pixels: Postgres would try to compress each, in vain."""

_FORGET = (
    "UPDATE adapted_models SET deleted_at = now(), fingerprint = NULL WHERE deleted_at IS NULL AND task_id IN "
    "(SELECT task_id FROM results WHERE object_key IS NULL)",
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
    for table, column in _NUMBERS:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """States that lie in rows cannot be said in the older tables: their models are deleted."""
    for statement in _FORGET:
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
