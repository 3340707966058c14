"""The tables. Migrations in `migrations/versions` bring a database to this state; a test compares the two."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

OPEN_TASK = ("queued", "running")
"""Statuses of a task that is not over."""

DEFAULT_TENANT = "ten_00000000000000000000000000"
"""The tenant of a keyless (loopback) server and of the bootstrap admin key."""


def created() -> Column[object]:
    """When a row was made, by the database's clock."""
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def tenant() -> Column[str]:
    """Whose row it is."""
    return Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False)


tenants = Table("tenants", metadata, Column("id", Text, primary_key=True), Column("name", Text, unique=True), created())

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("name", Text, nullable=False),
    Column("role", Text, CheckConstraint("role IN ('user', 'admin')", name="role"), nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("sha256", LargeBinary, nullable=False),
    created(),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column(
        "replaces",
        Text,
        ForeignKey("api_keys.id"),
        index=True,
        comment="the key that it was made for, to replace",
    ),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column(
        "content_sha256", Text, nullable=False, comment="of manifest and weights: publishing twice is publishing once"
    ),
    Column("manifest", JSONB, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("job_id", Text, comment="the job that made it; NULL where it was published from a folder"),
    created(),
    Column("deleted_at", DateTime(timezone=True), comment="its weights are gone; the row stays for the lineage"),
    UniqueConstraint("name", "content_sha256"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

adapted_models = Table(
    "adapted_models",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), comment="NULL until a worker has chosen it"),
    Column("checkpoint_name", Text, comment="NULL until a worker has chosen it"),
    Column("alias", Text),
    Column("learner", Text, comment="NULL until a worker has chosen it"),
    Column("options", JSONB, nullable=False),
    Column("task", Text, nullable=False),
    Column(
        "classes", JSONB, nullable=False, comment="the caller's labels, in order of first appearance; [] for regression"
    ),
    Column("k_shot", JSONB, nullable=False, comment="support rows per class, in the order of classes"),
    Column(
        "targets",
        JSONB,
        nullable=False,
        server_default=text("'[]'::jsonb"),
        comment="contracts.tasks.CountedTarget of each, where there are several; else []",
    ),
    Column("n_support", Integer, nullable=False),
    Column("input_shape", JSONB, nullable=False, comment="shape of one input: predict must bring the same"),
    Column("fingerprint", Text, comment="of checkpoint, support, options; NULL once the model can no longer be reused"),
    Column("content_sha256", Text, comment="of support, options, parent: with the checkpoint it makes the fingerprint"),
    Column("support_sha256", Text, comment="of its examples"),
    Column("task_id", Text, nullable=False, comment="the task whose state answers; a model that follows changes it"),
    Column("revision", Integer, nullable=False, server_default="1", comment="how many states have answered so far"),
    Column("follow", Boolean, nullable=False, server_default=text("false"), comment="its alias, wherever it goes"),
    Column(
        "target_checkpoint_id",
        Text,
        comment="where its alias led when that was last looked at; NULL: to the checkpoint it was made with",
    ),
    Column("parent_id", Text, ForeignKey("adapted_models.id")),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    created(),
    Column("expires_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
    Column(
        "observed", JSONB, comment="{n, correct, squared_error} of the answers of its checkpoint that have feedback"
    ),
    Column("state_erased_at", DateTime(timezone=True), comment="states and predictions are gone, and stay so"),
    Column(
        "support_left",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="its state is erased, and its support set and feedback are still to be: now, or once not recorded",
    ),
    Index("ix_adapted_models_listing", "tenant_id", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_adapted_models_checkpoint", "checkpoint_id"),
    Index(
        "uq_adapted_models_fingerprint",
        "tenant_id",
        "fingerprint",
        unique=True,
        postgresql_where=text("deleted_at IS NULL AND fingerprint IS NOT NULL"),
    ),
    Index(
        "ix_adapted_models_following",
        "checkpoint_name",
        "alias",
        text("coalesce(target_checkpoint_id, checkpoint_id)"),
        postgresql_where=text("follow AND deleted_at IS NULL AND state_erased_at IS NULL"),
    ),
    Index("ix_adapted_models_expiry", "expires_at", postgresql_where=text("state_erased_at IS NULL")),
    Index("ix_adapted_models_supports", "tenant_id", "created_at", postgresql_where=text("support_left")),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("adapted_model_id", Text, ForeignKey("adapted_models.id"), nullable=False, index=True),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), comment="NULL: one of the payload's candidates"),
    Column("learner", Text, comment="NULL until a worker has chosen it"),
    Column(
        "background",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="replays the support of the model's first task on another checkpoint; nobody waits for it",
    ),
    Column("payload", LargeBinary, comment="contracts.tasks.Payload; NULL once the model is deleted, and of replays"),
    Column(
        "payload_version",
        Integer,
        nullable=False,
        server_default="1",
        comment="contracts.tasks.PAYLOAD_VERSION of payload and query; of a replay that of the payload it replays",
    ),
    Column(
        "query",
        LargeBinary,
        comment="contracts.tasks.Payload of the query that came with the support; NULL once answered, and without",
    ),
    Column("status", Text, nullable=False, server_default="queued"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False, server_default="3"),
    Column("worker", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("reply_to", Text),
    Column("request_id", Text),
    Column("trace", Text, comment="W3C traceparent"),
    Column("failure", JSONB),
    created(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Index("ix_tasks_open", "background", "created_at", postgresql_where=text("status IN ('queued', 'running')")),
    Index("ix_tasks_failed", "finished_at", postgresql_where=text("status = 'failed'")),
    Index("uq_tasks_first", "adapted_model_id", unique=True, postgresql_where=text("NOT background")),
)

results = Table(
    "results",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id"), primary_key=True),
    Column("object_key", Text, comment="of its state in the object store; NULL where the state is in this row"),
    Column("object_sha256", Text, nullable=False),
    Column("state", LargeBinary, comment="a small state itself; NULL in the object store"),
    Column("quality", JSONB),
    Column("qualities", JSONB, comment="of each target, where there are several"),
    Column("selection", JSONB, comment="contracts.selection.Selection, where the checkpoint was chosen"),
    Column("predictions", JSONB),
    Column("timings", JSONB, nullable=False),
    created(),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("adapted_model_id", Text, comment="NULL for a one-shot call"),
    Column("checkpoint_id", Text, nullable=False),
    Column("n_query", Integer, nullable=False),
    Column("predictions", JSONB, nullable=False),
    Column("inputs", LargeBinary, comment="only with store: true"),
    Column("timings", JSONB, nullable=False),
    created(),
    Index("ix_predictions_model", "adapted_model_id"),
    Index("ix_predictions_created_at", "created_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    created(),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    tenant(),
    Column("key_id", Text, comment="NULL for a keyless server"),
    Column("action", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("request_id", Text),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column(
        "kind",
        Text,
        CheckConstraint("kind IN ('adaptation', 'trainer')", name="kind"),
        nullable=False,
        server_default="adaptation",
    ),
    Column("device", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("stats", JSONB, comment="counts since its start, as of seen_at; NULL: it counts nothing"),
)


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """A moment by the database's clock: the only clock that leases and expiries know."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
