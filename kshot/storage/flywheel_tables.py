"""The tables of what becomes of adapted models: their history, feedback on them, and what tenants let us record."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kshot.storage.tables import created, metadata, tenant

adapted_model_history = Table(
    "adapted_model_history",
    metadata,
    Column("id", Text, primary_key=True),
    Column("adapted_model_id", Text, ForeignKey("adapted_models.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False, comment="the one that answers from then on"),
    Column("checkpoint_id", Text, ForeignKey("checkpoints.id"), nullable=False, comment="it was tried on"),
    Column(
        "outcome",
        Text,
        CheckConstraint("outcome IN ('made', 'followed', 'kept', 'failed')", name="outcome"),
        nullable=False,
    ),
    Column("quality", JSONB, comment="contracts.tasks.Quality on that checkpoint"),
    Column("previous_quality", JSONB, comment="of the state that answered until then"),
    Column("reason", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    tenant(),
    Column("adapted_model_id", Text, ForeignKey("adapted_models.id"), nullable=False, index=True),
    Column("prediction_id", Text, comment="the answers it speaks of; NULL where it only brings inputs"),
    Column("checkpoint_id", Text, comment="of those answers"),
    Column("payload", LargeBinary, comment="contracts.tasks.Payload; NULL where the inputs are not known, or erased"),
    Column("n", Integer, nullable=False, comment="labels it brings"),
    Column("n_answered", Integer, nullable=False, comment="of them, those whose query was answered"),
    Column("n_correct", Integer, comment="classes only"),
    Column("squared_error", Float, comment="sum over n_answered; regression only"),
    created(),
    Index("uq_feedback_prediction", "prediction_id", unique=True, postgresql_where=text("prediction_id IS NOT NULL")),
)

recording = Table(
    "recording",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("retention_days", Integer, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
