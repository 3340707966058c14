"""The bodies of meta-training jobs over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from kshot.contracts.api import Answer, Reference
from kshot.contracts.checkpoints import EncoderSpec, EvaluationRow, InputSpec, Name
from kshot.contracts.model import Model
from kshot.contracts.tasks import Failure

Ways = Annotated[int, Field(ge=2, le=1000)]
Shots = Annotated[int, Field(ge=1, le=1000)]


class EpisodeRequest(Model):
    """The episodes of meta-training. A pair is lowest and highest, drawn anew for each episode."""

    n_way: Ways | Annotated[list[Ways], Field(min_length=2, max_length=2)] | None = None
    k_shot: Shots | Annotated[list[Shots], Field(min_length=2, max_length=2)] | None = None
    n_query: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="Queries per class")


class OptimiserRequest(Model):
    """The outer loop's optimiser; the learning rate falls to zero along a cosine."""

    name: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, le=10)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0


class AugmentRequest(Model):
    """More from the same pictures. ``rotations``: each picture turned by 90, 180 and 270 degrees is of a class of its
    own (handwritten characters; not photographs). ``warp``: turn, scale, shear and move a little, 0 to 1."""

    rotations: bool | None = None
    warp: Annotated[float, Field(ge=0, le=1)] | None = None


class EvaluateRequest(Model):
    """One row of the evaluation table, on held-out classes (or tasks)."""

    n_way: Ways | None = Field(default=None, description="Classification only")
    k_shot: Shots
    n_query: Annotated[int, Field(ge=1, le=1000)] = 15
    episodes: Annotated[int, Field(ge=2, le=10_000)] = 600


class NewJobRequest(Model):
    """`POST /v1/training-jobs`. What is left out is chosen to suit the data set."""

    dataset: Annotated[str, Field(min_length=1, max_length=200, description="Id or name of a data set")]
    name: Annotated[Name, Field(description="Name of the checkpoint it makes")]
    description: Annotated[str, Field(max_length=1000)] = ""
    encoder: Name | EncoderSpec | None = Field(default=None, description="`conv4`, `mlp`, `text`, ...; with options")
    learner: Name | None = None
    input: InputSpec | None = Field(default=None, description="What the encoder reads: size of pictures, for example")
    episode: EpisodeRequest = EpisodeRequest()
    augment: AugmentRequest = AugmentRequest()
    optimiser: OptimiserRequest = OptimiserRequest()
    meta_batch: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, description="Episodes per step")
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    time_budget: Annotated[float, Field(ge=1, le=30 * 24 * 3600)] | None = Field(
        default=None, description="Seconds of training, instead of `steps`: as many steps as fit"
    )
    evaluate: Annotated[list[EvaluateRequest], Field(max_length=16)] | None = Field(
        default=None, description="Rows of the evaluation table; `[]` for none"
    )
    base_checkpoint: Reference | None = Field(default=None, description="Begin at its encoder instead of at random")
    options: dict[str, int | float | str | bool] = Field(
        default={}, description="Of the learner while it is meta-trained: `inner_steps`, `inner_lr`"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    workers_per_job: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Processes that share each meta-batch"
    )


class TrainingPlan(Answer):
    """What a job would run."""

    object: Literal["training_plan"] = "training_plan"
    recipe: dict[str, Any] = Field(description="The request with every default filled in")
    time_budget: float | None = Field(description="Seconds it would train; null where `recipe` says how many steps")


class Progress(Answer):
    """Steps done, and to do (null until a time budget is turned into steps)."""

    step: int
    total: int | None


class TrainingJob(Answer):
    """A meta-training job. ``attempt`` counts its starts: a killed trainer costs one, and no more than one save
    interval of work."""

    object: Literal["training_job"] = "training_job"
    id: str
    name: str
    status: str = Field(
        description="`queued`, `running`, `pausing`, `paused`, `cancelling`, `cancelled`, `succeeded`, `failed`; may "
        "grow"
    )
    phase: str = Field(description="`training`, `evaluating` or `signing`; may grow")
    dataset: str
    base_checkpoint: str | None
    request: dict[str, Any] = Field(description="As it was sent")
    recipe: dict[str, Any] = Field(description="What runs: the request with every default filled in")
    progress: Progress
    saved_step: int = Field(description="Where a new attempt would go on")
    steps_per_s: float | None
    time_budget: float | None = Field(description="Seconds it trains; null where `recipe` says how many steps")
    estimated_finish: datetime | None
    attempt: int
    heartbeat_at: datetime | None
    error: Failure | None
    checkpoint: str | None = Field(description="Id of the checkpoint it made")
    evaluation: list[EvaluationRow] = []
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_state: str | None = Field(
        default=None,
        description="While it is open and not paused: `queued`, `running` or `no_worker` (no trainer is alive; it "
        "waits for one); may grow",
    )
    retry_after_ms: int | None = Field(default=None, description="While it is open and not paused: when to ask again")


class TrainingEvent(Answer):
    """Something that happened to a job; kinds and their data as `contracts.jobs.JobEvent` says."""

    object: Literal["event"] = "event"
    seq: int
    at: datetime
    attempt: int
    kind: str
    data: dict[str, Any]
