"""Tasks and jobs carry the trace of the request that they come from, where requests are traced.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = ("tasks", "training_jobs")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("trace", sa.Text(), nullable=True, comment="W3C traceparent"))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "trace")
