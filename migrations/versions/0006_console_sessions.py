"""Sessions of the console, and what workers say of themselves.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.LargeBinary(), nullable=False, comment="of the cookie's secret"),
        sa.Column("key_id", sa.Text(), nullable=False, comment="the API key that signed in: its end is the session's"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_sessions_key_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"])
    op.add_column(
        "workers",
        sa.Column(
            "stats", JSONB(), nullable=True, comment="counts since its start, as of seen_at; NULL: it counts nothing"
        ),
    )


def downgrade() -> None:
    op.drop_column("workers", "stats")
    op.drop_table("sessions")
