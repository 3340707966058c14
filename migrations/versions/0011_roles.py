"""A key's role is one of two by the database's word, as the tables have said all along.

`api_keys` is small: reading its rows through while it is locked takes no time.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NAME = "ck_api_keys_role"


def upgrade() -> None:
    op.create_check_constraint(op.f(_NAME), "api_keys", "role IN ('user', 'admin')")


def downgrade() -> None:
    op.drop_constraint(op.f(_NAME), "api_keys", type_="check")
