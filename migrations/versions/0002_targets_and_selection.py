"""several targets of one model; checkpoints that a worker chooses

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSONB = postgresql.JSONB(astext_type=sa.Text())
_TO_CHOOSE = "NULL until a worker has chosen it"
_OPEN = [
    ("adapted_models", "checkpoint_id", _TO_CHOOSE),
    ("adapted_models", "checkpoint_name", _TO_CHOOSE),
    ("adapted_models", "learner", _TO_CHOOSE),
    ("tasks", "checkpoint_id", "NULL: one of the payload's candidates"),
]
_ERASE = [
    """CREATE TEMPORARY TABLE newer ON COMMIT DROP AS
    SELECT m.id AS model, t.id AS task FROM adapted_models m JOIN tasks t ON t.adapted_model_id = m.id
    WHERE m.task = 'multitask' OR m.checkpoint_id IS NULL""",
    "UPDATE adapted_models SET parent_id = NULL WHERE parent_id IN (SELECT model FROM newer)",
    "DELETE FROM idempotency_keys WHERE object_id IN (SELECT model FROM newer)",
    "DELETE FROM predictions WHERE adapted_model_id IN (SELECT model FROM newer)",
    "DELETE FROM results WHERE task_id IN (SELECT task FROM newer)",
    "DELETE FROM tasks WHERE id IN (SELECT task FROM newer)",
    "DELETE FROM adapted_models WHERE id IN (SELECT model FROM newer)",
]


def upgrade() -> None:
    for table, column, comment in _OPEN:
        op.alter_column(table, column, existing_type=sa.Text(), nullable=True, comment=comment)
    op.add_column(
        "adapted_models",
        sa.Column(
            "targets",
            _JSONB,
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
            comment="contracts.tasks.CountedTarget of each, where there are several; else []",
        ),
    )
    op.add_column(
        "results", sa.Column("qualities", _JSONB, nullable=True, comment="of each target, where there are several")
    )
    op.add_column(
        "results",
        sa.Column(
            "selection",
            _JSONB,
            nullable=True,
            comment="contracts.selection.Selection, where the checkpoint was chosen",
        ),
    )


def downgrade() -> None:
    """Models of several targets, and those whose checkpoint was never chosen, cannot be said in the older tables."""
    op.drop_column("results", "selection")
    op.drop_column("results", "qualities")
    for statement in _ERASE:
        op.execute(statement)
    op.drop_column("adapted_models", "targets")
    for table, column, _ in _OPEN:
        op.alter_column(table, column, existing_type=sa.Text(), nullable=False, comment=None)
