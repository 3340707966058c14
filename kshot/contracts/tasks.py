"""What travels between the front end and the workers: support sets, queries, doorbells and replies."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid, Unavailable
from kshot.contracts.model import Model
from kshot.contracts.selection import Candidate, CheckpointRef, Selection
from kshot.contracts.wire import Array, Inputs, get_inputs, header_of, pack, put_inputs, unpack

Label = str | int
TargetKind = Literal["classification", "regression"]
MAX_TARGETS = 64
MAX_TARGET_NAME_CHARS = 64
TargetName = Annotated[str, Field(min_length=1, max_length=MAX_TARGET_NAME_CHARS)]
Wanted = Literal["labels", "probabilities", "logits", "values", "nearest"]
PAYLOAD_VERSION = 1
"""Of `Payload.encode`. It goes up with every change that a process from before it would not understand. In a task's row
it stands beside the payload; in a message of the queue the message's own version covers it."""
READABLE_PAYLOADS = frozenset({PAYLOAD_VERSION})
"""What this process understands. A release that reads a new version comes before the one that writes it."""


class LearnerOptions(Model):
    """What a caller may set about the learner for one task; None means the checkpoint's own default."""

    learner: str | None = Field(
        default=None, description="Another learner than the checkpoint's own, for example `ridge`."
    )
    task: TaskKind | None = Field(default=None, description="Only needed where labels alone do not tell (integers).")
    targets: Annotated[dict[TargetName, TargetKind], Field(max_length=MAX_TARGETS)] | None = Field(
        default=None,
        description="Labels that are objects only: the kind of a target whose values alone do not tell (integers, "
        "which are classes where nothing else is said).",
    )
    inner_steps: Annotated[int, Field(ge=1, le=50)] | None = Field(default=None, description="Gradient learners only.")
    inner_lr: Annotated[float, Field(gt=0, le=10)] | None = Field(default=None, description="Gradient learners only.")
    l2: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="Ridge only: the penalty lambda."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None,
        description="Reserved for learners that draw at random. No learner does yet: it changes no answer, "
        "but requests with different seeds are different requests.",
    )


class AnswerOptions(Model):
    """How predictions are written."""

    wanted: tuple[Wanted, ...] = ("labels", "probabilities", "values")
    top_k: int | None = None
    reject_below: float | None = None


class TargetSpec(Model):
    """One target of a joint support set. ``classes``: the caller's labels in order of first appearance; none for
    regression."""

    name: str
    kind: TargetKind
    classes: tuple[Label, ...] = ()


class CountedTarget(TargetSpec):
    """A target with the support rows that have it: ``n_examples`` in all, and for classes ``k_shot`` of each."""

    n_examples: int
    k_shot: tuple[int, ...] = ()


@dataclass(frozen=True)
class SupportSet:
    """A decoded support set.

    ``inputs``: n canonical inputs. ``targets``: int64 (n,) indices into ``classes`` for classification,
    float32 (n, n_targets) for regression, where ``classes`` is empty. For ``multitask``: float32 (n, T), one column
    per entry of ``columns``, NaN where a row lacks that target; a class stands as its index into the column's classes.
    """

    task: TaskKind
    inputs: Inputs
    targets: Array
    classes: tuple[Label, ...] = ()
    columns: tuple[TargetSpec, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def n_bytes(self) -> int:
        """What its inputs take."""
        return sum(map(len, self.inputs)) if isinstance(self.inputs, list) else self.inputs.nbytes


@dataclass(frozen=True)
class Form:
    """A support's inputs, and the query's, in the canonical form of other checkpoints."""

    inputs: Inputs
    query: Inputs | None


@dataclass(frozen=True)
class Payload:
    """The body of a task: a support set to adapt to, queries to answer, or both.

    With ``candidates`` the checkpoint is still to be chosen among them; ``others`` hold the same examples and queries
    for those that take another form of them than ``support`` and ``query`` have.
    """

    support: SupportSet | None = None
    query: Inputs | None = None
    options: LearnerOptions = LearnerOptions()
    answer: AnswerOptions = AnswerOptions()
    candidates: tuple[Candidate, ...] = ()
    others: tuple[Form, ...] = ()

    @property
    def wants_nearest(self) -> bool:
        """Whether the examples nearest to each query belong to the answer: that takes support and query."""
        return "nearest" in self.answer.wanted

    def of(self, candidate: Candidate) -> "Payload":
        """The payload as it would be had the caller named this candidate."""
        if candidate.form == 0 or self.support is None:
            return replace(self, candidates=(), others=())
        form = self.others[candidate.form - 1]
        support = replace(self.support, inputs=form.inputs)
        return replace(self, support=support, query=form.query, candidates=(), others=())

    def encode(self) -> bytes:
        """As one safetensors buffer, for Postgres and Redis."""
        header: dict[str, Any] = {
            "version": PAYLOAD_VERSION,
            "options": self.options.model_dump(mode="json"),
            "answer": self.answer.model_dump(mode="json"),
        }
        arrays: dict[str, Array] = {}
        if self.support is not None:
            columns = [column.model_dump(mode="json") for column in self.support.columns]
            header["support"] = {
                "task": self.support.task, "classes": list(self.support.classes), "columns": columns,
            }  # fmt: skip
            put_inputs(arrays, header, "support.inputs", self.support.inputs)
            arrays["support.targets"] = self.support.targets
        if self.query is not None:
            put_inputs(arrays, header, "query.inputs", self.query)
        if self.candidates:
            header["candidates"] = [candidate.model_dump(mode="json") for candidate in self.candidates]
            header["others"] = len(self.others)
        for i, form in enumerate(self.others):
            put_inputs(arrays, header, f"others.{i}.inputs", form.inputs)
            if form.query is not None:
                put_inputs(arrays, header, f"others.{i}.query", form.query)
        return pack(header, arrays)

    @classmethod
    def decode(cls, buffer: bytes) -> "Payload":
        """The payload of a buffer that :meth:`encode` made. Raises Unavailable for one of a version not read here,
        Invalid for anything else: others may write to the stream besides us."""
        header, arrays = unpack(buffer)
        with header_of("a payload"):
            if header["version"] not in READABLE_PAYLOADS:
                message = "another version of kshot wrote this and is needed to read it; try again"
                raise Unavailable(message, retry_after=5)
            return cls._of(header, arrays)

    @classmethod
    def _of(cls, header: dict[str, Any], arrays: dict[str, Array]) -> "Payload":
        return cls(
            support=_support(header, arrays) if "support" in header else None,
            query=get_inputs(arrays, header, "query.inputs"),
            options=LearnerOptions.model_validate(header["options"], strict=False),
            answer=AnswerOptions.model_validate(header["answer"], strict=False),
            candidates=tuple(Candidate.model_validate(item) for item in header.get("candidates", ())),
            others=tuple(
                Form(_present(arrays, header, f"others.{i}.inputs"), get_inputs(arrays, header, f"others.{i}.query"))
                for i in range(header.get("others", 0))
            ),
        )


def _support(header: dict[str, Any], arrays: dict[str, Array]) -> SupportSet:
    inputs, targets, meta = _present(arrays, header, "support.inputs"), arrays["support.targets"], header["support"]
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise Invalid("the payload's support has not as many targets as inputs")
    columns = tuple(TargetSpec.model_validate(column, strict=False) for column in meta.get("columns", ()))
    return SupportSet(meta["task"], inputs, targets, tuple(meta["classes"]), columns)


def _present(arrays: dict[str, Array], header: dict[str, Any], name: str) -> Inputs:
    inputs = get_inputs(arrays, header, name)
    if inputs is None:
        raise Invalid(f"the payload lacks {name}")
    return inputs


class Doorbell(Model):
    """Rung after a task row is committed. It carries no truth: the row does."""

    task_id: str
    reply_to: str | None


class PredictCall(Model):
    """A prediction travels in Redis whole (its payload beside it): it is pure, so a lost one is simply asked again.

    ``model`` names a stored adapted model; None means the payload brings its own support set (one-shot). ``task`` made
    the state to answer with: a model that follows an alias may have another one by now.
    ``deadline_ms``: after this many milliseconds in the stream nobody waits any more.
    """

    id: str
    tenant: str
    checkpoint: str
    model: str | None
    task: str | None = None
    reply_to: str
    deadline_ms: int
    store_inputs: bool = False
    request_id: str = ""


class Timings(Model):
    """Where the time of an answer went; ``batch_size`` counts the tasks computed in the same call."""

    queue_ms: float
    compute_ms: float
    batch_size: int


class Quality(Model):
    """How good the adapted model is, measured on its own support.

    ``k_fold``: every row answered by a model adapted to the other ``folds`` - 1 parts of the support.
    ``macro_f1`` tells what accuracy hides where classes are of different sizes; ``r2`` is the explained share of the
    variance, below 0 where the support's mean would have done better. Both as in ``kshot.metrics``.
    ``reliable`` is False where the support is too small for the figure to say much.
    """

    method: Literal["leave_one_out", "k_fold"]
    folds: int | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    mse: float | None = None
    r2: float | None = None
    n: int
    reliable: bool


class Failure(Model):
    """An error on its way back to the caller."""

    code: str
    message: str
    param: str | None = None


class Reply(Model):
    """A worker's answer to one adapt task or one prediction. ``predictions`` is JSON-ready, in the caller's labels.

    ``checkpoint`` and ``selection`` are those of a call that left the choice to the worker.
    """

    id: str
    failure: Failure | None = None
    predictions: list[dict[str, Any]] | None = None
    quality: Quality | None = None
    timings: Timings | None = None
    checkpoint: CheckpointRef | None = None
    selection: Selection | None = None
