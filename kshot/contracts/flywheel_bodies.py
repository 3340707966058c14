"""The bodies of feedback, recording and histories over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kshot.contracts.api import Answer, Observed, Rows
from kshot.contracts.following import Outcome
from kshot.contracts.model import Model
from kshot.contracts.tasks import Quality

DEFAULT_RETENTION_DAYS = 90


class FeedbackSettings(Model):
    """Everything of a feedback request but inputs and labels."""

    prediction: Annotated[str, Field(max_length=200)] | None = Field(
        default=None,
        description="Id of the prediction whose queries these are, in its order. Recorded with `store: true` it brings "
        "its inputs; else they may be sent along",
    )


class FeedbackRequest(FeedbackSettings):
    """`POST /v1/adapted-models/{id}/feedback`: the true labels of queries."""

    inputs: Rows | None = None
    labels: Rows = Field(description="One for each query: a class of the model, or numbers; null where it is not known")


class RecordingRequest(Model):
    """`PUT /v1/recording`: whether this tenant's tasks may be recorded for meta-training."""

    enabled: bool
    retention_days: Annotated[int, Field(ge=1, le=3650)] = DEFAULT_RETENTION_DAYS


class Revision(Answer):
    """A line of an adapted model's history: it was made, or its alias moved to ``checkpoint``."""

    object: Literal["revision"] = "revision"
    id: str
    revision: int = Field(description="The one that answers from then on")
    checkpoint: str
    at: datetime
    outcome: Outcome = Field(
        description="`made`; `followed`: it answers there now; `kept`: it would answer its own examples worse there; "
        "`failed`: it cannot be made there; may grow"
    )
    quality: Quality | None = Field(default=None, description="There")
    previous_quality: Quality | None = Field(default=None, description="Of the state that answered until then")
    reason: str


class Feedback(Answer):
    """Feedback as it was recorded."""

    object: Literal["feedback"] = "feedback"
    id: str
    model: str
    prediction: str | None
    n: int = Field(description="True labels it brought")
    correct: int | None = Field(default=None, description="Of the answers they were compared with, the right ones")
    observed: Observed | None = Field(default=None, description="Of this prediction; null where none is named")


class Recording(Answer):
    """Whether this tenant's support sets and feedback are recorded for meta-training, and how long they are kept."""

    object: Literal["recording"] = "recording"
    enabled: bool
    retention_days: int = Field(
        description="How long they are kept from when they came, also past the end of their adapted model"
    )
    changed_at: datetime | None = Field(description="Null: never; nothing is recorded by default")
