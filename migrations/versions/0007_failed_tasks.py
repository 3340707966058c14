"""Tasks that failed lately are found without reading all others.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_tasks_failed"), "tasks", ["finished_at"], postgresql_where=sa.text("status = 'failed'"))


def downgrade() -> None:
    op.drop_index(op.f("ix_tasks_failed"), "tasks")
