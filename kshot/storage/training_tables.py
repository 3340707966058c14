"""The tables of meta-training and of the registry's history; those of serving are in `tables`."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kshot.storage.tables import created, metadata, tenant

datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("manifest", JSONB, nullable=False, comment="contracts.datasets.DatasetManifest"),
    Column("object_key", Text, comment="NULL where nothing is stored (sinusoid, recorded_tasks)"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    created(),
    Column("deleted_at", DateTime(timezone=True)),
    Index("uq_datasets_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
)

training_jobs = Table(
    "training_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("name", Text, nullable=False, comment="of the checkpoint it makes"),
    Column("dataset_id", Text, ForeignKey("datasets.id"), nullable=False),
    Column("base_checkpoint_id", Text, ForeignKey("checkpoints.id")),
    Column("request", JSONB, nullable=False, comment="as the caller sent it"),
    Column("spec", JSONB, nullable=False, comment="contracts.jobs.JobSpec"),
    Column(
        "status",
        Text,
        CheckConstraint(
            "status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed')",
            name="status",
        ),
        nullable=False,
        server_default="queued",
    ),
    Column("attempt", Integer, nullable=False, server_default="0", comment="the fencing token"),
    Column("barren", Integer, nullable=False, server_default="0", comment="attempts in a row that saved no new step"),
    Column("worker", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("phase", Text, nullable=False, server_default="training"),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("total", Integer, comment="NULL until a time budget is turned into steps"),
    Column("steps_per_s", Float),
    Column("state_key", Text, comment="the last saved state in the object store"),
    Column("state_step", Integer, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0", comment="of its events"),
    Column("failure", JSONB),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), comment="what it made"),
    Column("request_id", Text),
    created(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Index(
        "ix_training_jobs_open",
        "created_at",
        postgresql_where=text("status IN ('queued', 'running', 'pausing', 'cancelling')"),
    ),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False),
)

alias_history = Table(
    "alias_history",
    metadata,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column(
        "reason",
        Text,
        CheckConstraint("reason IN ('publish', 'promote', 'force', 'rollback', 'set')", name="reason"),
        nullable=False,
    ),
    Column("promotion_id", Text, ForeignKey("promotions.id")),
    Column("key_id", Text, comment="NULL for a keyless server and for `publish`"),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("challenger_id", Text, ForeignKey("checkpoints.id"), nullable=False),
    Column("incumbent_id", Text, ForeignKey("checkpoints.id"), nullable=False),
    Column("alias_version", Integer, nullable=False, comment="of the alias when it was asked for"),
    Column("dataset_id", Text, ForeignKey("datasets.id"), nullable=False),
    Column(
        "status",
        Text,
        CheckConstraint("status IN ('queued', 'running', 'promoted', 'refused', 'failed')", name="status"),
        nullable=False,
        server_default="queued",
    ),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("worker", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("comparison", JSONB, comment="contracts.registry.Comparison"),
    Column("failure", JSONB),
    Column("key_id", Text),
    Column("request_id", Text),
    created(),
    Column("finished_at", DateTime(timezone=True)),
    Index("ix_promotions_open", "created_at", postgresql_where=text("status IN ('queued', 'running')")),
    Index("uq_promotions_open", "name", "alias", unique=True, postgresql_where=text("status IN ('queued', 'running')")),
)
