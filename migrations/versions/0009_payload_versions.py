"""Each task says in which version its payload is written, so that a worker leaves alone what it cannot read.

A column with a constant default: Postgres writes it down once, and rewrites no row.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tasks",
        sa.Column(
            "payload_version",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="contracts.tasks.PAYLOAD_VERSION of payload and query; of a replay that of the payload it replays",
        ),
    )


def downgrade() -> None:
    """Older workers claim every task: what they cannot read fails, as it does without this column."""
    op.drop_column("tasks", "payload_version")
