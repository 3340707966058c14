"""A task may name another one whose support has the rows before its own, so that a model with one example more does not
store all others again.

Columns without a default, or with a constant one: Postgres rewrites no row. The index holds none at first.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tasks",
        sa.Column(
            "base_task_id",
            sa.Text(),
            sa.ForeignKey("tasks.id", name=op.f("fk_tasks_base_task_id")),
            nullable=True,
            comment="whose support comes before the rows of payload",
        ),
    )
    op.add_column(
        "tasks",
        sa.Column(
            "bytes_before",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of the support that comes before",
        ),
    )
    op.create_index("ix_tasks_base", "tasks", ["base_task_id"], postgresql_where=sa.text("base_task_id IS NOT NULL"))


def downgrade() -> None:
    """Supports that are not whole are lost to older versions: they are written in a version that these leave alone."""
    op.drop_index("ix_tasks_base", "tasks")
    op.drop_column("tasks", "bytes_before")
    op.drop_column("tasks", "base_task_id")
