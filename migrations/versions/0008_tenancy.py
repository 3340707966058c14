"""What a request of a tenant may see is decided by the database; keys that replace others; quotas.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TENANT = "(SELECT current_setting('kshot.tenant', true))"
_OWN = f"tenant_id = {_TENANT}"
_POLICIES = {
    "tenants": f"id = {_TENANT}",
    **dict.fromkeys(
        (
            "api_keys", "adapted_models", "tasks", "predictions", "feedback", "recording", "idempotency_keys",
            "datasets", "training_jobs", "promotions", "quotas", "audit_log",
        ),
        _OWN,
    ),
    "results": "EXISTS (SELECT FROM tasks WHERE tasks.id = results.task_id)",
    "adapted_model_history": "EXISTS (SELECT FROM adapted_models m WHERE m.id = adapted_model_id)",
    "job_events": "EXISTS (SELECT FROM training_jobs j WHERE j.id = job_events.job_id)",
    "sessions": "EXISTS (SELECT FROM api_keys k WHERE k.id = sessions.key_id)",
}  # fmt: skip
"""Of each table, which rows a tenant's transaction sees and may write. Subqueries are under their tables' policies."""

# A dump is restored without privileges, since its roles may not exist there: so what is granted is written down in the
# database itself, and granted again after a restore (`kshot/storage/tenancy.py`). FOR KEY SHARE needs the right to
# update some column.
_GRANTS = """
CREATE FUNCTION grant_to_tenants() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_schema_privilege('pg_database_owner', current_schema(), 'USAGE') THEN  -- it was dropped and made again
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO pg_database_owner', current_schema());
    END IF;
    GRANT SELECT ON tenants, api_keys, checkpoints, aliases, datasets, training_jobs, promotions, quotas, results
        TO pg_database_owner;
    GRANT SELECT, INSERT, UPDATE ON adapted_models, tasks, recording TO pg_database_owner;
    GRANT SELECT, UPDATE ON predictions TO pg_database_owner;
    GRANT SELECT, INSERT, DELETE ON feedback TO pg_database_owner;
    GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO pg_database_owner;
    GRANT SELECT, DELETE ON adapted_model_history TO pg_database_owner;
    GRANT INSERT ON audit_log TO pg_database_owner;
    GRANT UPDATE (state, predictions) ON results TO pg_database_owner;
    GRANT UPDATE (id) ON checkpoints TO pg_database_owner;
END $$
"""

# While this waits for one lock, requests may wait for those it holds already: so all are taken at once, and given back
# where one does not come soon.
_LOCK_ALL = f"""
DO $$ BEGIN
    PERFORM set_config('lock_timeout', '400ms', true);
    FOR attempt IN 1..200 LOOP
        BEGIN
            LOCK TABLE {", ".join(name for name in (*_POLICIES, "checkpoints", "aliases") if name != "quotas")}
                IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF attempt = 200 THEN RAISE; END IF;
            PERFORM pg_sleep(0.1 + random() / 5);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', '0', true);
END $$
"""

_REFUSE_OTHERS = """
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'pg_database_owner', 'MEMBER') THEN
        RAISE EXCEPTION 'the user of DATABASE_URL must own the database: ALTER DATABASE % OWNER TO %',
            quote_ident(current_database()), quote_ident(current_user);
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(_REFUSE_OTHERS)
    op.execute(_LOCK_ALL)
    op.add_column(
        "api_keys", sa.Column("replaces", sa.Text(), nullable=True, comment="the key that it was made for, to replace")
    )
    op.create_foreign_key(op.f("fk_api_keys_replaces"), "api_keys", "api_keys", ["replaces"], ["id"])
    op.create_index(op.f("ix_api_keys_replaces"), "api_keys", ["replaces"])
    _create_quotas()
    for table, sees in _POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {table} TO pg_database_owner USING ({sees})")
    op.execute(_GRANTS)
    op.execute("SELECT grant_to_tenants()")
    # also in a session that asks Postgres to skip ordinary triggers
    op.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_append_only")


def _create_quotas() -> None:
    own = "NULL: as KSHOT_QUOTA_... says"
    op.create_table(
        "quotas",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("adapted_models", sa.BigInteger(), nullable=True, comment=own),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True, comment=own),
        sa.Column("dataset_bytes", sa.BigInteger(), nullable=True, comment=own),
        sa.Column("open_jobs", sa.BigInteger(), nullable=True, comment=own),
        sa.Column("requests_per_minute", sa.BigInteger(), nullable=True, comment="NULL: KSHOT_RATE_PER_MINUTE"),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_quotas_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_quotas")),
    )


def downgrade() -> None:
    op.execute("ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only")
    op.execute("DROP FUNCTION grant_to_tenants()")
    for table in _POLICIES:
        op.execute(f"DROP POLICY own_rows ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for table in (*_POLICIES, "checkpoints", "aliases"):
        op.execute(f"REVOKE ALL ON {table} FROM pg_database_owner")
    op.drop_table("quotas")
    op.drop_index(op.f("ix_api_keys_replaces"), "api_keys")
    op.drop_constraint(op.f("fk_api_keys_replaces"), "api_keys", type_="foreignkey")
    op.drop_column("api_keys", "replaces")
