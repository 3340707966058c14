"""What a learner is: two pure functions over ragged batches of tasks, and the same with gradients for training.

Invariants every learner keeps (tests/kshot/learners/test_learner_invariants.py): a task's answer does not depend on
the tasks beside it, nor a query's on the other queries; the order of the support and the names of classes change
nothing; the same call gives the same bytes; the batched path equals a plain loop.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.contracts.wire import Inputs
from kshot.device import CPU
from kshot.encoders.base import Encoder
from kshot.learners.parts import blocks_of

Head = Mapping[str, Tensor]
"""A learner's own meta-learned tensors, by name."""

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Column:
    """One of several targets: its kind, and for classes how many there are."""

    kind: TaskKind
    n_way: int | None = None


@dataclass(frozen=True)
class Support:
    """The labelled examples of one task.

    ``inputs``: n canonical inputs.
    ``targets``: int64 (n,) in [0, n_way), or float32 (n, n_targets) with ``n_way`` None.
    A task with several targets (kind ``multitask``) has one of ``columns`` for each. Its ``targets`` are float32
    (n, T): a class by its number, NaN where a row lacks the target.
    """

    task: TaskKind
    inputs: Inputs
    targets: Tensor
    n_way: int | None = None
    columns: tuple[Column, ...] = ()

    @cached_property
    def n_outputs(self) -> int:
        """Width of the answer: ways, or regression targets. A call asks for it several times."""
        return self.n_way if self.n_way is not None else self.targets.shape[1]


@dataclass(frozen=True)
class State:
    """An adapted model: a value. ``tensors`` belong to the learner and the checkpoint that made them.

    With several targets ``columns`` and ``qualities`` hold one entry for each, and ``quality`` is None.
    """

    task: TaskKind
    n_way: int | None
    tensors: Mapping[str, Tensor]
    quality: Quality | None = None
    columns: tuple[Column, ...] = ()
    qualities: tuple[Quality | None, ...] = ()


@dataclass(frozen=True)
class Output:
    """The answers to q queries of one task: logits (q, n_way), or values (q, n_targets) and, where known, their std.

    With several targets ``columns`` holds one such answer for each, and the rest is None.
    """

    logits: Tensor | None = None
    values: Tensor | None = None
    std: Tensor | None = None
    columns: tuple["Output", ...] = ()


class Learner(ABC):
    """A method that adapts. Holds settings of the method only, nothing between calls.

    ``name``: its name in the registry. ``tasks``: the kinds of task it can do.
    ``options``: the LearnerOptions it honours.
    """

    name: str
    tasks: frozenset[TaskKind]
    options: frozenset[str]

    @abstractmethod
    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        """Fresh meta-learned tensors (float32, on the CPU) to train beside ``encoder``; empty where there are none.

        ``options`` as in a manifest's ``learner.options``.
        """

    @abstractmethod
    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        """Mean query loss of a meta-batch: cross-entropy, or squared error, unless the learner says another.

        Differentiable in the encoder's parameters and the head. ``options`` as in a manifest's ``learner.options``.
        With the encoder in ``train()`` mode, metric learners embed supports and queries together (batch statistics).
        """

    @abstractmethod
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        """The adapted state of each task.

        Raises Invalid where a support or the checkpoint does not suit, AdaptationFailed where a state is not finite.
        """

    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        """As :meth:`adapt`, but without a quality that would have to be bought by adapting again."""
        return self.adapt(checkpoint, supports, options)

    @abstractmethod
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        """The answers to each state's queries."""


def check_supports(learner: Learner, supports: Sequence[Support]) -> None:
    """Raises Invalid where a support cannot be learned from: wrong kind of task, no rows, a class without examples."""
    for support in supports:
        if support.task not in learner.tasks:
            raise Invalid(f"learner {learner.name} does not do {support.task}", param="options.learner")
        n = support.targets.shape[0]
        if n == 0 or n != len(support.inputs):
            raise Invalid("a support needs as many labels as inputs, and at least one", param="support.labels")
        if support.n_way is not None and not _every_class_occurs(support.targets, support.n_way):
            raise Invalid("every class of the support needs at least one example", param="support.labels")


def _every_class_occurs(labels: Tensor, n_way: int) -> bool:
    """Whether the labels (n,) are the numbers from 0 to ``n_way``, and no others."""
    found = set(labels.tolist())
    return len(found) == n_way and min(found) == 0 and max(found) == n_way - 1


def check_finite(states: list[State]) -> list[State]:
    """The states themselves; raises AdaptationFailed where any of their numbers is not finite."""
    check_numbers(tensor for state in states for tensor in blocks_of(state.tensors))
    return states


def check_numbers(tensors: Iterable[Tensor]) -> None:
    """Raises AdaptationFailed where any number is not finite."""
    own = list(tensors)
    if all(math.isfinite(tensor.sum()) for tensor in own):  # a sum hides no infinity, but may be one of finite numbers
        return
    if not bool(torch.stack([tensor.isfinite().all() for tensor in own]).all()):
        raise AdaptationFailed(
            "adapting gave numbers that are not finite; check the scale of the inputs, of labels that are numbers, "
            "and the options"
        )


def device_of(encoder: Encoder, head: Head) -> torch.device:
    """Where a checkpoint's tensors are; the CPU where it has none."""
    for tensor in chain(head.values(), encoder.parameters(), encoder.buffers()):
        return tensor.device
    return CPU


def settings_of(checkpoint: Checkpoint, options: LearnerOptions) -> dict[str, Any]:
    """The learner options of one call: the caller's where given, else the checkpoint's own."""
    given = {name: value for name, value in options.model_dump().items() if value is not None}
    return {**checkpoint.manifest.learner.options, **given}
