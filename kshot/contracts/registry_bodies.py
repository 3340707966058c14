"""The bodies of checkpoints, aliases and promotions over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kshot.contracts.api import Answer
from kshot.contracts.checkpoints import EvaluationRow, InputSpec, Lineage, TaskKind
from kshot.contracts.model import Model
from kshot.contracts.registry import Comparison
from kshot.contracts.tasks import Failure

Named = Annotated[str, Field(min_length=1, max_length=200)]


class MoveAliasRequest(Model):
    """`PUT /v1/aliases/{name}`: where the alias is to point.

    Onto `@production`, where another checkpoint is there already, the two are compared first.
    """

    checkpoint: Annotated[Named, Field(description="An id, `name@alias` or `name`", examples=["glyphs@candidate"])]
    dataset: Named | None = Field(
        default=None,
        description="Id or name of the data set to compare on; by default the one that this checkpoint's job was "
        "trained on, else that of the one in production",
    )
    force: bool = Field(default=False, description="Move it without a comparison")


class RollbackRequest(Model):
    """`POST /v1/aliases/{name}/rollback`: to what the alias pointed at before, or at an earlier `version`."""

    version: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class AliasChange(Answer):
    """An entry of an alias's history: from `at` on it pointed at `checkpoint`."""

    object: Literal["alias_change"] = "alias_change"
    name: str
    alias: str
    version: int
    checkpoint: str
    at: datetime
    reason: str = Field(
        description="`publish` (a checkpoint folder), `promote` (after a comparison), `force`, `rollback`, `set`; may "
        "grow"
    )
    promotion: str | None = Field(description="Id of the promotion with the comparison")
    key: str | None = Field(description="Id of the API key that asked, for administrators")


class Promotion(Answer):
    """A checkpoint compared with the one in production, and what came of it."""

    object: Literal["promotion"] = "promotion"
    id: str
    name: str
    alias: str
    challenger: str
    incumbent: str
    dataset: str
    status: str = Field(description="`queued`, `running`, `promoted`, `refused`, `failed`; may grow")
    comparison: Comparison | None
    error: Failure | None = Field(description="Why it failed")
    created_at: datetime
    finished_at: datetime | None
    queue_state: str | None = Field(
        default=None, description="While it is open: `queued`, `running` or `no_worker`; may grow"
    )
    retry_after_ms: int | None = Field(default=None, description="While it is open: when to ask again")


class Checkpoint(Answer):
    """A meta-trained checkpoint."""

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    name: str
    description: str
    aliases: list[str]
    tasks: list[TaskKind]
    input: InputSpec
    learner: str
    learners: list[str] = Field(description="What `options.learner` may name")
    n_targets: int | None
    bytes: int = Field(description="Of its weights; 0 once they are gone")
    evaluation: list[EvaluationRow]
    lineage: Lineage
    job: str | None = Field(default=None, description="Id of the training job that made it")
    parent: str | None = Field(default=None, description="What it began at: a checkpoint's id, or its name")
    datasets: list[str] = Field(default=[], description="Ids of the data sets it was meta-trained on")
    created_at: datetime
    deleted_at: datetime | None = Field(
        default=None, description="Since then nothing is made with it; it is still there for the lineage of others"
    )


class Alias(Answer):
    """`name@alias` and the checkpoint it points at."""

    object: Literal["alias"] = "alias"
    name: str
    alias: str
    checkpoint: str
    version: int
    updated_at: datetime
