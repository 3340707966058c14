"""One item of work on its way through the worker: decoded, keyed for batching, and what came of it."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.tasks import Label, LearnerOptions, Payload, TargetSpec, Timings
from kshot.learners.base import State
from kshot.queue.work import Delivered
from kshot.storage.results import Chosen
from kshot.storage.tasks import Claim

Operation = Literal["adapt", "predict", "oneshot"]
Origin = Claim | Delivered
"""What an item came from, and to whom its answer goes: a claimed task row, or a predict call from the stream."""


@dataclass(frozen=True)
class Key:
    """Items with equal keys may share one call of the learner; ``options`` holds only what that learner honours.

    While the checkpoint is still to be chosen, ``checkpoint`` and ``learner`` are AUTO. ``background``: nobody waits.
    """

    checkpoint: str
    operation: Operation
    learner: str
    options: LearnerOptions
    task: TaskKind
    shape: tuple[int, ...]
    background: bool = False


@dataclass(frozen=True)
class Adapted:
    """A state of an adapted model in memory, and what is needed to answer with it."""

    checkpoint: str
    learner: str
    classes: tuple[Label, ...]
    columns: tuple[TargetSpec, ...]
    shape: tuple[int, ...]
    state: State


@dataclass(frozen=True, eq=False)
class Work:
    """A decoded item. ``model`` is set for ``predict`` alone; the other operations bring their support set, which a
    ``predict`` only has where the nearest examples are wanted.

    ``chosen``: the checkpoint, where that was left to us; ``queued_ms`` and ``computed_ms`` went by until it was.
    """

    key: Key
    origin: Origin
    payload: Payload
    model: Adapted | None = None
    chosen: Chosen | None = None
    queued_ms: float = 0.0
    computed_ms: float = 0.0
    arrived: float = field(default_factory=time.monotonic)

    @property
    def classes(self) -> tuple[Label, ...]:
        """The caller's labels; empty for regression."""
        if self.model is not None:
            return self.model.classes
        assert self.payload.support is not None
        return self.payload.support.classes

    @property
    def columns(self) -> tuple[TargetSpec, ...]:
        """What the caller calls its targets, where there are several."""
        if self.model is not None:
            return self.model.columns
        assert self.payload.support is not None
        return self.payload.support.columns

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.origin.tenant if isinstance(self.origin, Claim) else self.origin.call.tenant

    @property
    def request_id(self) -> str | None:
        """The request it belongs to, for the logs."""
        return self.origin.request_id if isinstance(self.origin, Claim) else self.origin.call.request_id

    @property
    def n_bytes(self) -> int:
        """What its inputs take, for texts about."""
        query, support = self.payload.query, self.payload.support
        asked = 0 if query is None else sum(map(len, query)) if isinstance(query, list) else query.nbytes
        return asked + (0 if support is None else support.n_bytes)

    @property
    def weight(self) -> int:
        """What it counts against its batch limit: an adaptation its number of targets, a prediction of queries, and of
        examples where they are embedded beside them."""
        if self.key.operation != "predict":
            return max(len(self.columns), 1)
        assert self.payload.query is not None
        return len(self.payload.query) + len(self.payload.support or ())


@dataclass(frozen=True)
class Solved:
    """An item that was computed. ``state`` is None for a prediction of a stored model. ``nearest``: of each query the
    examples most like it, where they are wanted."""

    work: Work
    state: State | None
    predictions: list[dict[str, Any]] | None
    timings: Timings
    nearest: list[list[dict[str, Any]]] | None = None


@dataclass(frozen=True)
class Failed:
    """An item that was not, and why."""

    origin: Origin
    error: Exception


Outcome = Solved | Failed
