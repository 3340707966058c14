"""models that follow an alias, their history, feedback, recording

Revision: 0004, after 0003.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSONB = postgresql.JSONB(astext_type=sa.Text())
_NOW = sa.text("now()")
_OPEN = "status IN ('queued', 'running')"
_PAYLOAD = "contracts.tasks.Payload; NULL once the model is deleted"

_MODEL_COLUMNS: list[sa.Column[Any]] = [
    sa.Column(
        "content_sha256",
        sa.Text(),
        nullable=True,
        comment="of support, options, parent: with the checkpoint it makes the fingerprint",
    ),
    sa.Column("support_sha256", sa.Text(), nullable=True, comment="of its examples"),
    sa.Column(
        "task_id", sa.Text(), nullable=True, comment="the task whose state answers; a model that follows changes it"
    ),
    sa.Column(
        "revision", sa.Integer(), server_default="1", nullable=False, comment="how many states have answered so far"
    ),
    sa.Column(
        "follow", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="its alias, wherever it goes"
    ),
    sa.Column(
        "target_checkpoint_id",
        sa.Text(),
        nullable=True,
        comment="where its alias led when that was last looked at; NULL: to the checkpoint it was made with",
    ),
    sa.Column(
        "observed",
        _JSONB,
        nullable=True,
        comment="{n, correct, squared_error} of the answers of its checkpoint that have feedback",
    ),
    sa.Column(
        "state_erased_at",
        sa.DateTime(timezone=True),
        nullable=True,
        comment="states and predictions are gone, and stay so",
    ),
    sa.Column(
        "support_left",
        sa.Boolean(),
        server_default=sa.text("false"),
        nullable=False,
        comment="its state is erased, and its support set and feedback are still to be: now, or once not recorded",
    ),
]
_TASK_COLUMNS: list[sa.Column[Any]] = [
    sa.Column("learner", sa.Text(), nullable=True, comment="NULL until a worker has chosen it"),
    sa.Column(
        "background",
        sa.Boolean(),
        server_default=sa.text("false"),
        nullable=False,
        comment="replays the support of the model's first task on another checkpoint; nobody waits for it",
    ),
]
_FILL = [
    "UPDATE adapted_models m SET task_id = t.id FROM tasks t WHERE t.adapted_model_id = m.id",
    "UPDATE tasks t SET learner = m.learner FROM adapted_models m WHERE t.adapted_model_id = m.id",
    # what was erased before need not be looked at again
    """UPDATE adapted_models m SET state_erased_at = now() FROM tasks t
    WHERE t.id = m.task_id AND t.payload IS NULL AND m.deleted_at IS NULL AND NOT m.pinned AND m.expires_at < now()""",
]
_FORGET = [
    # a model that moved on goes on with the state that answers now, as if it had been made so
    """UPDATE tasks t SET payload = first.payload FROM adapted_models m, tasks first
    WHERE t.id = m.task_id AND t.background AND first.adapted_model_id = m.id AND NOT first.background""",
    "CREATE TEMPORARY TABLE idle ON COMMIT DROP AS SELECT t.id FROM tasks t JOIN adapted_models m "
    "ON t.adapted_model_id = m.id WHERE t.id <> m.task_id",
    "DELETE FROM results WHERE task_id IN (SELECT id FROM idle)",
    "DELETE FROM tasks WHERE id IN (SELECT id FROM idle)",
]


def upgrade() -> None:
    for column in _MODEL_COLUMNS:
        op.add_column("adapted_models", column._copy())
    for column in _TASK_COLUMNS:
        op.add_column("tasks", column._copy())
    for statement in _FILL:
        op.execute(statement)
    op.alter_column("adapted_models", "task_id", existing_type=sa.Text(), nullable=False)
    op.alter_column(
        "tasks",
        "payload",
        existing_type=postgresql.BYTEA(),
        existing_nullable=True,
        comment=f"{_PAYLOAD}, and of replays",
        existing_comment=_PAYLOAD,
    )
    op.drop_constraint("uq_tasks_adapted_model_id", "tasks", type_="unique")
    op.create_index("ix_tasks_adapted_model_id", "tasks", ["adapted_model_id"])
    op.create_index(
        "uq_tasks_first", "tasks", ["adapted_model_id"], unique=True, postgresql_where=sa.text("NOT background")
    )
    op.create_index(
        "ix_adapted_models_following",
        "adapted_models",
        ["checkpoint_name", "alias", sa.text("coalesce(target_checkpoint_id, checkpoint_id)")],
        postgresql_where=sa.text("follow AND deleted_at IS NULL AND state_erased_at IS NULL"),
    )
    op.create_index(
        "ix_adapted_models_expiry",
        "adapted_models",
        ["expires_at"],
        postgresql_where=sa.text("state_erased_at IS NULL"),
    )
    op.create_index(
        "ix_adapted_models_supports",
        "adapted_models",
        ["tenant_id", "created_at"],
        postgresql_where=sa.text("support_left"),
    )
    op.drop_index("ix_tasks_open", "tasks")
    op.create_index("ix_tasks_open", "tasks", ["background", "created_at"], postgresql_where=sa.text(_OPEN))
    _create_tables()


def _create_tables() -> None:
    op.create_table(
        "adapted_model_history",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("adapted_model_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="the one that answers from then on"),
        sa.Column("checkpoint_id", sa.Text(), nullable=False, comment="it was tried on"),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("quality", _JSONB, nullable=True, comment="contracts.tasks.Quality on that checkpoint"),
        sa.Column("previous_quality", _JSONB, nullable=True, comment="of the state that answered until then"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('made', 'followed', 'kept', 'failed')", name=op.f("ck_adapted_model_history_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["adapted_model_id"], ["adapted_models.id"], name=op.f("fk_adapted_model_history_adapted_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_adapted_model_history_checkpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapted_model_history")),
    )
    op.create_index("ix_adapted_model_history_adapted_model_id", "adapted_model_history", ["adapted_model_id"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("adapted_model_id", sa.Text(), nullable=False),
        sa.Column(
            "prediction_id",
            sa.Text(),
            nullable=True,
            comment="the answers it speaks of; NULL where it only brings inputs",
        ),
        sa.Column("checkpoint_id", sa.Text(), nullable=True, comment="of those answers"),
        sa.Column(
            "payload",
            sa.LargeBinary(),
            nullable=True,
            comment="contracts.tasks.Payload; NULL where the inputs are not known, or erased",
        ),
        sa.Column("n", sa.Integer(), nullable=False, comment="labels it brings"),
        sa.Column("n_answered", sa.Integer(), nullable=False, comment="of them, those whose query was answered"),
        sa.Column("n_correct", sa.Integer(), nullable=True, comment="classes only"),
        sa.Column("squared_error", sa.Float(), nullable=True, comment="sum over n_answered; regression only"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["adapted_model_id"], ["adapted_models.id"], name=op.f("fk_feedback_adapted_model_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_feedback_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index("ix_feedback_adapted_model_id", "feedback", ["adapted_model_id"])
    op.create_index(
        "uq_feedback_prediction",
        "feedback",
        ["prediction_id"],
        unique=True,
        postgresql_where=sa.text("prediction_id IS NOT NULL"),
    )
    op.create_table(
        "recording",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("retention_days", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_recording_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_recording")),
    )


def downgrade() -> None:
    """A model keeps the state that answers now; the others, histories and feedback cannot be said in the older
    tables."""
    for table in ("recording", "feedback", "adapted_model_history"):
        op.drop_table(table)
    for statement in _FORGET:
        op.execute(statement)
    op.drop_index("ix_tasks_open", "tasks")
    op.create_index("ix_tasks_open", "tasks", ["created_at"], postgresql_where=sa.text(_OPEN))
    op.drop_index("ix_adapted_models_supports", "adapted_models")
    op.drop_index("ix_adapted_models_expiry", "adapted_models")
    op.drop_index("ix_adapted_models_following", "adapted_models")
    op.drop_index("uq_tasks_first", "tasks")
    op.drop_index("ix_tasks_adapted_model_id", "tasks")
    op.create_unique_constraint("uq_tasks_adapted_model_id", "tasks", ["adapted_model_id"])
    op.alter_column(
        "tasks",
        "payload",
        existing_type=postgresql.BYTEA(),
        existing_nullable=True,
        comment=_PAYLOAD,
        existing_comment=f"{_PAYLOAD}, and of replays",
    )
    for column in reversed(_TASK_COLUMNS):
        op.drop_column("tasks", column.name)
    for column in reversed(_MODEL_COLUMNS):
        op.drop_column("adapted_models", column.name)
