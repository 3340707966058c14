"""Learners that adapt by gradient descent from a meta-learned start: MAML and its relatives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil, sqrt
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import (
    NO_OPTIONS,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_numbers,
    check_supports,
    device_of,
    settings_of,
)
from kshot.learners.batching import (
    Embeddings,
    Packed,
    alike,
    concatenate,
    cut,
    embed_all,
    grouped,
    groups,
    in_groups,
    pack,
    pad,
    unpadded,
)
from kshot.learners.folds import adapt_and_judge
from kshot.learners.inner_loop import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    Embed,
    InnerLoop,
    StackedEncoder,
    Weights,
    as_they_are,
    encoder_name,
    encoder_weights,
    head_for,
    stack_of,
    support_statistics,
)
from kshot.learners.losses import as_queries
from kshot.learners.outer_loss import OuterLoss
from kshot.learners.parts import Stack, in_rows, joined
from kshot.learners.paths import answers, paths

_USUAL_STEPS, _USUAL_LR = 5, 0.01
_NUMBERS_AT_ONCE, _NUMBERS_IN_CACHE = 1 << 28, 1 << 20  # of weights and maps in one call: in all, and on a CPU


@dataclass(frozen=True)
class GradientLearner(Learner):
    """Gradient descent on the class-balanced support loss, from the meta-learned encoder and head.

    ``first_order``: meta-training ignores second derivatives. ``moves_encoder``: the inner loop changes the encoder
    too, unless that is frozen. Meta-training option ``transductive``: norms that belong to the task take the statistics
    of the queries, as published MAML does, instead of the support's; served is always the latter.
    Manifest option ``precision``: ``bfloat16`` lets a moving encoder compute so, in the inner loop and in the answers.
    No checkpoint that ships has it: a task's answer then depends on what shares its call by more than 1e-4.
    ``needs``: meta-learned tensors without which a checkpoint belongs to another learner.
    State: ``weight`` (C, d), ``bias`` (C), and ``encoder.*`` where the encoder moved or its norms belong to the task.
    """

    name: str
    first_order: bool = False
    moves_encoder: bool = True
    needs: tuple[str, ...] = (HEAD_WEIGHT,)
    tasks: frozenset[TaskKind] = frozenset({"classification", "regression"})
    options: frozenset[str] = frozenset({"inner_steps", "inner_lr"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        if encoder.out_dim == 0:
            raise Invalid(f"learner {self.name} needs an encoder of fixed width")
        rows = 1 if task == "classification" else (n_targets or 1)
        weight = torch.randn(rows, encoder.out_dim, generator=generator) / sqrt(encoder.out_dim)
        return {HEAD_WEIGHT: weight, HEAD_BIAS: torch.zeros(rows)}

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        device, loop = device_of(encoder, head), self.inner_loop(encoder, head, options)
        embed, by_support = self._embed(encoder, NO_OPTIONS), not options.get("transductive")
        loss = OuterLoss(embed, loop, self.outer_shares(loop.steps, options), by_support)
        x = self._read(encoder, [support.inputs for support in supports] + list(queries), device)
        asked = as_queries(supports, queries, targets)
        total = torch.zeros((), device=device)
        for group in self._shares(encoder, _groups(encoder, supports, queries), x, queries):
            support = pack([supports[i] for i in group], x.padded(group))
            query = pack([asked[i] for i in group], x.padded([len(supports) + i for i in group]))
            start = self._starts(encoder, head, support, embed)
            total = total + loss(start, support, query, self._at_once(encoder, query.x[0], query.x.shape[1]))
        return total / len(supports)

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        self._check(checkpoint, supports)
        stays = self._stays(checkpoint.encoder)

        def adapt(known: Checkpoint, parts: Sequence[Support]) -> list[State]:
            return _states(parts, self._adapted(known, parts, options))

        return adapt_and_judge(adapt, self.predict, checkpoint, supports, encoder_stays=stays)

    @torch.no_grad()
    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        self._check(checkpoint, supports)
        adapted = self._adapted(checkpoint, supports, options)
        check_numbers(stack.rows for _, stack in adapted)
        return _states(supports, adapted)

    def _adapted(
        self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions
    ) -> list[tuple[list[int], Stack]]:
        """The numbers of tasks that shared a call, and their adapted weights."""
        encoder, head = checkpoint.encoder, checkpoint.head
        settings = settings_of(checkpoint, options)
        loop, found = self.inner_loop(encoder, head, settings), []
        embed = self._embed(encoder, settings)
        x = self._read(encoder, [support.inputs for support in supports], device_of(encoder, head))
        for group in self._shares(encoder, _groups(encoder, supports), x):
            packed = pack([supports[i] for i in group], x.padded(group))
            (adapted,) = paths(embed, self._starts(encoder, head, packed, embed), packed, loop, (loop.steps - 1,))
            found.append((group, in_rows(adapted | support_statistics(embed, adapted, packed.x))))
        return found

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        encoder, head = checkpoint.encoder, checkpoint.head
        embed = self._embed(encoder, checkpoint.manifest.learner.options)
        normed = {encoder_name(name) for name in encoder.statistic_names}
        x = self._read(encoder, queries, device_of(encoder, head))
        alone = [bool(normed) and not normed <= set(state.tensors) for state in states]
        sizes = [n if exact else alike(n) for n, exact in zip(x.lengths, alone, strict=True)]
        values = 0 if HEAD_BIAS not in head else head[HEAD_BIAS].shape[0]
        widths = [values if s.n_way is None else s.n_way for s in states]
        keys = [(s.task, alike(width), size) for s, width, size in zip(states, widths, sizes, strict=True)]

        def answered(group: list[int]) -> list[Output]:
            found = answers(embed, _stack([states[i].tensors for i in group]), x.padded(group))
            own = cut(found, [[x.lengths[i] for i in group], [widths[i] for i in group]])
            if states[group[0]].task == "classification":
                return [Output(logits=answer) for answer in own]
            return [Output(values=answer) for answer in own]

        return in_groups(self._shares(encoder, grouped(keys), x), answered)

    def inner_loop(self, encoder: Encoder, head: Head, settings: Mapping[str, Any]) -> InnerLoop:
        """The inner loop that the learner options ask for."""
        return InnerLoop(inner_steps(settings), inner_lr(settings), self.first_order, head_first=True)

    def outer_shares(self, steps: int, options: Mapping[str, Any]) -> dict[int, float]:
        """How much of the outer loss the query loss after each step is; steps without a share are left out."""
        return {steps - 1: 1.0}

    def start_heads(self, head: Head, support: Packed, embeddings: Callable[[], Tensor]) -> Weights:
        """Where the heads of B tasks start, stacked. ``embeddings``: gives those of the support, (B, N, d)."""
        shared = head_for(head, support.task, support.targets.shape[-1])
        return {name: tensor.expand(len(support.x), *tensor.shape) for name, tensor in shared.items()}

    def moving_weights(self, encoder: Encoder) -> Weights:
        """The encoder's parameters that the inner loop changes, by the names that states give them."""
        return encoder_weights(encoder) if self._moves(encoder) else {}

    def _starts(self, encoder: Encoder, head: Head, support: Packed, embed: Embed) -> Weights:
        """Where the inner loops of B tasks start, stacked."""
        heads = self.start_heads(head, support, lambda: embed({}, support.x))
        return stack_of(self._start(encoder), len(support.x)) | heads

    def _read(self, encoder: Encoder, blocks: Sequence[Inputs], device: torch.device) -> Embeddings:
        """What the model takes, for each block: prepared inputs, or embeddings where those never change."""
        if self._stays(encoder):
            return embed_all(encoder, blocks, device)
        return Embeddings(encoder.prepare(concatenate(blocks), device), [len(block) for block in blocks])

    def _embed(self, encoder: Encoder, settings: Mapping[str, Any]) -> Embed:
        """How inputs become embeddings."""
        if self._stays(encoder):
            return as_they_are
        return StackedEncoder(encoder, settings.get("precision") == "bfloat16")

    def _start(self, encoder: Encoder) -> Weights:
        """The encoder's weights that an inner loop starts with and moves."""
        return {} if self._stays(encoder) else self.moving_weights(encoder)

    def _stays(self, encoder: Encoder) -> bool:
        """Whether an input has one embedding, whatever the task."""
        return not (encoder.statistic_names or self._moves(encoder))

    def _moves(self, encoder: Encoder) -> bool:
        return self.moves_encoder and not encoder.frozen and encoder.n_weights > 0

    def _shares(
        self, encoder: Encoder, found: list[list[int]], x: Embeddings, queries: Sequence[Inputs] = ()
    ) -> list[list[int]]:
        """The groups in parts that go through one call each, tasks of like size together.

        On a CPU a call gains by its tasks as long as their weights and maps stay in the cache; then it loses. There
        ``queries`` do not count, which the inner loop never sees; elsewhere memory is what ends, and they fill it too.
        """
        others = () if x.flat.device.type == "cpu" else map(len, queries)
        rows = [sum(own) for own in zip_longest(x.lengths, others, fillvalue=0)]
        parts: list[list[int]] = []
        for group in found:
            left = sorted(group, key=lambda i: -rows[i])
            while left:
                calls = ceil(len(left) / self._at_once(encoder, x.flat, rows[left[0]]))
                n = ceil(len(left) / calls)  # so that the last one is not left with few
                parts.append(sorted(left[:n]))
                left = left[n:]
        return parts

    def _at_once(self, encoder: Encoder, x: Tensor, rows: int) -> int:
        """How many tasks share a call, each of so many rows like those of ``x``."""
        numbers = rows * max(encoder.row_size, x[0].numel()) + (encoder.n_weights if self._moves(encoder) else 0)
        limit = _NUMBERS_IN_CACHE if x.device.type == "cpu" else _NUMBERS_AT_ONCE
        return max(1, limit // max(1, numbers))

    def _check(self, checkpoint: Checkpoint, supports: Sequence[Support]) -> None:
        check_supports(self, supports)
        head = checkpoint.head
        if not set(self.needs) <= set(head):
            raise Invalid(f"this checkpoint was not meta-trained for learner {self.name}", param="options.learner")
        rows = {1 if support.task == "classification" else support.n_outputs for support in supports}
        if HEAD_BIAS in head and rows != {len(head[HEAD_BIAS])}:
            raise Invalid("this checkpoint was meta-trained for another kind of task", param="support.labels")


def inner_steps(settings: Mapping[str, Any]) -> int:
    """The number of inner steps that learner options ask for."""
    return int(settings.get("inner_steps", _USUAL_STEPS))


def inner_lr(settings: Mapping[str, Any]) -> float:
    """The inner learning rate that learner options ask for."""
    return float(settings.get("inner_lr", _USUAL_LR))


def _groups(encoder: Encoder, supports: Sequence[Support], queries: Sequence[Inputs] = ()) -> list[list[int]]:
    """Indices of tasks that may share a stack: of equal size where a padded row would enter a norm's statistics."""
    if not encoder.statistic_names:
        return groups(supports)
    asked = [len(query) for query in queries] or [0] * len(supports)
    return grouped([(s.task, len(s.targets), q, alike(s.n_outputs)) for s, q in zip(supports, asked, strict=True)])


def _states(supports: Sequence[Support], adapted: Sequence[tuple[list[int], Stack]]) -> list[State]:
    stacks = {group[0]: stack for group, stack in adapted}

    def parted(group: list[int]) -> list[State]:
        own = _own([supports[i].n_outputs for i in group], stacks[group[0]])
        return [State(supports[i].task, supports[i].n_way, tensors) for i, tensors in zip(group, own, strict=True)]

    return in_groups([group for group, _ in adapted], parted)


def _own(outputs: Sequence[int], stack: Stack) -> Sequence[Mapping[str, Tensor]]:
    """Each task's adapted weights, in memory of their own, the heads without padding."""
    if min(outputs) == max(outputs):
        return stack.separate()
    return unpadded(stack.tensors(), {HEAD_WEIGHT: outputs, HEAD_BIAS: outputs})


def _stack(tensors: Sequence[Mapping[str, Tensor]]) -> Weights:
    """Adapted weights of several models, stacked; heads padded to the most outputs."""
    stack = joined(tensors)
    if stack is not None:
        return stack.tensors()
    if len(tensors) == 1:
        return {name: own.unsqueeze(0) for name, own in tensors[0].items()}
    return {name: pad([own[name] for own in tensors]) for name in tensors[0]}
