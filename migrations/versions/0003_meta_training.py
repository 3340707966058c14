"""data sets, jobs, promotions; what aliases pointed at before

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "manifest",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="contracts.datasets.DatasetManifest",
        ),
        sa.Column(
            "object_key", sa.Text(), nullable=True, comment="NULL where nothing is stored (sinusoid, recorded_tasks)"
        ),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_datasets_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(
        "uq_datasets_name", "datasets", ["name"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("challenger_id", sa.Text(), nullable=False),
        sa.Column("incumbent_id", sa.Text(), nullable=False),
        sa.Column("alias_version", sa.Integer(), nullable=False, comment="of the alias when it was asked for"),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "comparison",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="contracts.registry.Comparison",
        ),
        sa.Column("failure", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["challenger_id"], ["checkpoints.id"], name=op.f("fk_promotions_challenger_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_promotions_dataset_id")),
        sa.ForeignKeyConstraint(["incumbent_id"], ["checkpoints.id"], name=op.f("fk_promotions_incumbent_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_promotions_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'promoted', 'refused', 'failed')", name=op.f("ck_promotions_status")
        ),
    )
    op.create_index(
        "ix_promotions_open",
        "promotions",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "uq_promotions_open",
        "promotions",
        ["name", "alias"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_table(
        "training_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="of the checkpoint it makes"),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("base_checkpoint_id", sa.Text(), nullable=True),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="as the caller sent it"),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="contracts.jobs.JobSpec"),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False, comment="the fencing token"),
        sa.Column(
            "barren",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="deaths since a new step was saved; those before a first step count more",
        ),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.Text(), server_default="training", nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total", sa.Integer(), nullable=True, comment="NULL until a time budget is turned into steps"),
        sa.Column("steps_per_s", sa.Float(), nullable=True),
        sa.Column("state_key", sa.Text(), nullable=True, comment="the last saved state in the object store"),
        sa.Column("state_step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False, comment="of its events"),
        sa.Column("failure", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("checkpoint_id", sa.Text(), nullable=True, comment="what it made"),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["base_checkpoint_id"], ["checkpoints.id"], name=op.f("fk_training_jobs_base_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_training_jobs_checkpoint_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_training_jobs_dataset_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_training_jobs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_jobs")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed')",
            name=op.f("ck_training_jobs_status"),
        ),
    )
    op.create_index(
        "ix_training_jobs_open",
        "training_jobs",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running', 'pausing', 'cancelling')"),
    )
    op.create_table(
        "alias_history",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("promotion_id", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True, comment="NULL for a keyless server and for `publish`"),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_alias_history_checkpoint_id")),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotions.id"], name=op.f("fk_alias_history_promotion_id")),
        sa.PrimaryKeyConstraint("name", "alias", "version", name=op.f("pk_alias_history")),
        sa.CheckConstraint(
            "reason IN ('publish', 'promote', 'force', 'rollback', 'set')", name=op.f("ck_alias_history_reason")
        ),
    )
    op.execute(
        "INSERT INTO alias_history (name, alias, version, checkpoint_id, at, reason) "
        "SELECT name, alias, version, checkpoint_id, updated_at, 'publish' FROM aliases"
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_job_events")),
    )
    op.add_column(
        "checkpoints",
        sa.Column(
            "job_id",
            sa.Text(),
            nullable=True,
            comment="the job that made it; NULL where it was published from a folder",
        ),
    )
    op.add_column(
        "checkpoints",
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="its weights are gone; the row stays for the lineage",
        ),
    )
    op.create_index("ix_adapted_models_checkpoint", "adapted_models", ["checkpoint_id"])
    op.create_index("ix_predictions_created_at", "predictions", ["created_at"])
    op.add_column("workers", sa.Column("kind", sa.Text(), server_default="adaptation", nullable=False))
    op.create_check_constraint(op.f("ck_workers_kind"), "workers", "kind IN ('adaptation', 'trainer')")


def downgrade() -> None:
    op.drop_column("workers", "kind")
    op.drop_index("ix_predictions_created_at", table_name="predictions")
    op.drop_index("ix_adapted_models_checkpoint", table_name="adapted_models")
    op.drop_column("checkpoints", "deleted_at")
    op.drop_column("checkpoints", "job_id")
    op.drop_table("job_events")
    op.drop_table("alias_history")
    op.drop_index(
        "ix_training_jobs_open",
        table_name="training_jobs",
        postgresql_where=sa.text("status IN ('queued', 'running', 'pausing', 'cancelling')"),
    )
    op.drop_table("training_jobs")
    op.drop_index(
        "uq_promotions_open", table_name="promotions", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_index(
        "ix_promotions_open", table_name="promotions", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_table("promotions")
    op.drop_index("uq_datasets_name", table_name="datasets", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("datasets")
