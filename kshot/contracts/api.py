"""The bodies of the HTTP API; those of data sets, jobs, registry and feedback are in ``*_bodies.py`` beside this file.

Requests are strict (unknown fields refused, nothing coerced). Answers may gain fields, so a reader ignores new ones.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.model import Model
from kshot.contracts.selection import CheckpointRef, Selection
from kshot.contracts.tasks import Failure, Label, LearnerOptions, Quality, TargetKind, Timings, Wanted

MAX_TTL_S = 10 * 365 * 24 * 3600
DEFAULT_TTL_S = 30 * 24 * 3600

Reference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="`name@alias`, `name` (means `name@production`), a checkpoint id, or `auto`: of the checkpoints in "
        "production that take such examples, the one whose embeddings answer them best when each is left out",
        examples=["intents@production"],
    ),
]
Ttl = Annotated[int, Field(ge=1, le=MAX_TTL_S, description="Seconds until the adapted model expires")]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=1000)] | int | float | bool | None],
    Field(max_length=32, description="Yours: kept and returned, never read"),
]

FOLLOW = (
    "When the alias moves to another checkpoint, make the model again there from its own examples, and go over to it "
    "unless it answers these worse; `GET /v1/adapted-models/{id}/history` tells. Only where the checkpoint is named by "
    "an alias: `name@alias` or `name`"
)

Rows = Annotated[list[Any], Field(json_schema_extra={"minItems": 1})]  # the service says what one row looks like


class Examples(Model):
    """Labelled examples. Labels: all strings or all integers for classes; numbers or lists of numbers for regression;
    or objects `{target: value or null}` for several targets at once, each of them strings or numbers in all its rows.

    Images: base64 PNG or JPEG, or data URLs. Vectors: lists of numbers. Texts: strings.
    """

    inputs: Rows
    labels: Rows


class Query(Model):
    """Inputs to be answered in the same call."""

    inputs: Rows


class AdaptSettings(Model):
    """Everything of an adapt request but the examples: the `request` part of multipart and binary bodies."""

    checkpoint: Reference
    options: LearnerOptions = LearnerOptions()
    ttl_seconds: Ttl = DEFAULT_TTL_S
    metadata: Metadata = {}
    follow: bool = Field(default=False, description=FOLLOW)


class AdaptRequest(AdaptSettings):
    """`POST /v1/adapt`: a support set in, an adapted model out."""

    support: Examples
    query: Query | None = None


class ExamplesSettings(Model):
    """Everything of an examples request but the examples."""

    ttl_seconds: Ttl = DEFAULT_TTL_S
    metadata: Metadata = {}


class ExamplesRequest(ExamplesSettings):
    """`POST /v1/adapted-models/{id}/examples`: a new adapted model from the parent's support and these."""

    support: Examples
    query: Query | None = None


class PredictSettings(Model):
    """Everything of a predict request but inputs and examples."""

    model: Annotated[str, Field(max_length=200)] | None = Field(default=None, description="Id of an adapted model")
    checkpoint: Reference | None = Field(default=None, description="One-shot calls only, with `support`")
    options: LearnerOptions = Field(default=LearnerOptions(), description="One-shot calls only")
    wanted: list[Wanted] | None = Field(
        default=None,
        alias="return",
        min_length=1,
        max_length=5,
        description="Parts of each prediction. Classes: `labels`, `probabilities`, `logits`, by default the first two; "
        "regression: `values`; either: `nearest`, the examples most like it. Targets with nothing wanted are left out",
    )
    top_k: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Only the k most probable classes"
    )
    reject_below: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Answer `label: null` where the best probability is lower"
    )
    store: bool = Field(
        default=False,
        description="Record the inputs (one-shot: the support too) beside the answers, which are always recorded. "
        "Deleting the model erases all of it; records of one-shot calls stay",
    )


class PredictRequest(PredictSettings):
    """`POST /v1/predict`: answers of a stored adapted model, or of an inline support set (one-shot)."""

    inputs: Rows
    support: Examples | None = None


class ChangeRequest(Model):
    """`PATCH /v1/adapted-models/{id}`: what may change. A missing field stays as it is."""

    ttl_seconds: Ttl | None = None
    pinned: bool | None = Field(default=None, description="A pinned model does not expire")
    metadata: Metadata | None = None
    follow: bool | None = Field(default=None, description=FOLLOW)


class Answer(BaseModel):
    """The base of every answer: a reader ignores fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Target(Answer):
    """One of several targets of an adapted model."""

    name: str
    task: TargetKind
    classes: list[Label] = Field(default=[], description="In order of first appearance; empty for regression")
    n_way: int | None = None
    k_shot: dict[str, int] = Field(default={}, description="Support rows per class")
    n_examples: int = Field(description="Support rows that have this target")
    quality: Quality | None = None


class Observed(Answer):
    """How well the state that answers now has answered, by the feedback on its recorded predictions."""

    n: int = Field(description="Answers compared with a true label; rejected ones (`label: null`) are not")
    accuracy: float | None = None
    mse: float | None = Field(default=None, description="Over all numbers of an answer")


class AdaptedModel(Answer):
    """A checkpoint after one support set."""

    object: Literal["adapted_model"] = "adapted_model"
    id: str
    status: str = Field(description="`queued`, `running`, `succeeded`, `failed`; may grow")
    checkpoint: CheckpointRef | None = Field(description="Null until a worker has chosen it (`auto`)")
    learner: str | None = Field(description="Null until its checkpoint is chosen (`auto`)")
    task: TaskKind
    classes: list[Label] = Field(description="In order of first appearance; empty for regression and `multitask`")
    n_way: int | None = None
    k_shot: dict[str, int] = Field(description="Support rows per class")
    n_support: int
    quality: Quality | None = Field(
        default=None,
        description="Measured on its own support: each example, or each of `folds` parts, answered by a model of the "
        "others. `multitask`: see `targets`",
    )
    observed: Observed | None = Field(default=None, description="Measured by feedback on its answers; null before any")
    targets: list[Target] = Field(default=[], description="`multitask` only: one for each target, by name")
    predictions: list[dict[str, Any]] | None = Field(
        default=None,
        description="Answers to `query`, in its order: {label, probabilities} or {value, std}, or "
        "{targets: {name: one of the two}}; null in lists",
    )
    selection: Selection | None = Field(default=None, description="`auto` only: how its checkpoint was chosen")
    timings: Timings | None = None
    error: Failure | None = Field(default=None, description="Why it failed")
    created_at: datetime
    expires_at: datetime | None
    pinned: bool = False
    follow: bool = Field(default=False, description="Whether it moves with `checkpoint.alias`")
    revision: int = Field(default=1, description="How many states have answered so far; only one that follows has two")
    parent_id: str | None = None
    metadata: dict[str, Any] = {}
    queue_state: str | None = Field(
        default=None, description="While pending: `queued`, `running` or `no_worker`; may grow"
    )
    position: int | None = Field(default=None, description="While pending: tasks accepted before this one")
    retry_after_ms: int | None = Field(default=None, description="While pending: when to ask again")


class Prediction(Answer):
    """The answers to one predict call."""

    object: Literal["prediction"] = "prediction"
    id: str
    model: str | None
    checkpoint: CheckpointRef
    predictions: list[dict[str, Any]] = Field(
        description="In the order of the inputs: {label, probabilities} or {value, std}, or {targets: {name: one of "
        "the two}}; with `nearest` where that was wanted: [{index, label, similarity}]"
    )
    timings: Timings
    selection: Selection | None = Field(default=None, description="`auto` only: how the checkpoint was chosen")


class ApiKey(Answer):
    """An API key. ``key``, the secret, is there once: in the answer to the request that made it."""

    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    role: Literal["user", "admin"]
    tenant: str
    prefix: str
    key: str | None = None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaces: str | None = Field(default=None, description="The id of the key that it was made for, to replace")


class Limits(Answer):
    """What one request may carry, and how many a tenant may send."""

    object: Literal["limits"] = "limits"
    max_ways: int = Field(description="Classes of one model, or of one of its targets")
    max_targets: int = Field(description="Targets of one model")
    max_support: int = Field(description="Examples of one model, its parent's included")
    max_joint_labels: int = Field(description="Examples times targets of one model of several targets")
    max_query: int = Field(description="Inputs to answer in one request")
    max_body_bytes: int = Field(description="Size of a request's body, but for data sets")
    max_dataset_bytes: int = Field(description="Size of the file of an uploaded data set")
    max_decoded_bytes: int = Field(description="Memory that the inputs of one list take once decoded")
    max_image_pixels: int = Field(description="Pixels of one image")
    max_image_pixels_per_request: int = Field(description="Pixels of one list of images together")
    max_wait_seconds: int = Field(description="Longest `Prefer: wait=` and `?wait=`")
    max_open_tasks: int = Field(description="Adaptations of one tenant that wait or run")
    requests_per_minute: int = Field(description="Requests of one tenant, over all of its keys")
    formats: list[str] = Field(description="Content types of requests with examples or inputs")


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """A page of a list, newest first. Ask for the next with ``after=last_id``."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Deleted(Answer):
    """Confirms a deletion."""

    object: str
    id: str
    deleted: Literal[True] = True


class ProblemItem(Answer):
    """One fault of several."""

    param: str
    message: str


class Problem(Answer):
    """RFC 9457 problem details: every error looks like this, with media type `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    param: str | None = None
    errors: list[ProblemItem] = []
    request_id: str | None = None
