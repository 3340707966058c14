"""Matching Networks: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.attention import Similarity, class_log_probabilities, similarity_of
from kshot.learners.base import (
    NO_OPTIONS,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_finite,
    check_numbers,
    check_supports,
    device_of,
    settings_of,
)
from kshot.learners.batching import Packed, alike, cut, embed_all, grouped, groups, pack
from kshot.learners.calibration import ROUND_OFF, posterior_scale, scale_of_margin
from kshot.learners.folds import adapt_and_judge
from kshot.learners.full_context import full_context_head, has_full_context, query_in_context, support_in_context
from kshot.learners.kept_support import kept_support, packed_support
from kshot.learners.losses import embedding_meta_loss, row_losses
from kshot.learners.quality import accuracy_qualities, can_leave_out

_FIRST_SHARPNESS = {"l2": 1.0, "cosine": 10.0, "dot": 1.0}
_USUAL_MARGIN = 4.0  # where no sharpness was meta-learned: rows of different classes are so many nats apart
_PROCESSING_STEPS = 5


class Matching(Learner):
    """p(y | x) = sum_i a(x, x_i) y_i, a = softmax_i(sharpness * similarity(f(x), g(x_i))) (eq. 1); logits are log p.
    Where classes differ in size, a class's sum is divided by its rows, so that size is no evidence for a class.

    Manifest options: ``distance`` says what is similar, minus the squared Euclidean distance (``l2``, the default),
    ``cosine`` (the paper's) or ``dot``. ``full_context``: f and g see the whole support (section 2.1.2), f in
    ``processing_steps``; else both are the encoder. ``log_sharpness`` is meta-learned (the paper has none, and a cosine
    alone cannot make a softmax sure); on a checkpoint of another learner it is fitted by exact leave-one-out.
    Full context has no such formula: its models are judged by adapting again (:mod:`kshot.learners.folds`).
    State: ``support`` (n, d), the rows' g, ``classes`` (n) and ``sharpness`` ().
    """

    name = "matching"
    tasks: frozenset[TaskKind] = frozenset({"classification"})
    options: frozenset[str] = frozenset()

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        distance = options.get("distance", "l2")
        similarity_of(distance)
        head = {"log_sharpness": torch.tensor(_FIRST_SHARPNESS[distance]).log()}
        if options.get("full_context"):
            if encoder.out_dim == 0:
                raise Invalid("full context needs an encoder of fixed width")
            head |= full_context_head(encoder.out_dim, generator)
        return head

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        def answer(support: Packed, query: Tensor) -> Tensor:
            g = _support_rows(head, support)
            scores = head["log_sharpness"].exp() * _similarities(head, options, query, g, support.rows)
            return class_log_probabilities(scores, support, support.rows.unsqueeze(1))

        return embedding_meta_loss(encoder, device_of(encoder, head), supports, queries, targets, answer)

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        if not has_full_context(checkpoint.head):
            return check_finite(self._states(checkpoint, supports, options))

        def adapt(known: Checkpoint, parts: Sequence[Support]) -> list[State]:
            return self._states(known, parts, options)

        return adapt_and_judge(adapt, self.predict, checkpoint, supports, encoder_stays=True)

    @torch.no_grad()
    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        return check_finite(self._states(checkpoint, supports, options))

    def _states(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        device = device_of(checkpoint.encoder, checkpoint.head)
        similarity = similarity_of(settings_of(checkpoint, options).get("distance", "l2"))
        features = embed_all(checkpoint.encoder, [support.inputs for support in supports], device)
        states: dict[int, State] = {}
        for group in groups(supports):
            packed = pack([supports[i] for i in group], features.padded(group))
            states.update(zip(group, _adapt(packed, checkpoint.head, similarity), strict=True))
        return [states[i] for i in range(len(supports))]

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        device = device_of(checkpoint.encoder, checkpoint.head)
        settings = settings_of(checkpoint, LearnerOptions())
        features = embed_all(checkpoint.encoder, queries, device)
        sizes = [
            (alike(len(s.tensors["classes"])), alike(s.n_way or 0), alike(n))
            for s, n in zip(states, features.lengths, strict=True)
        ]
        outputs: dict[int, Output] = {}
        for group in grouped(sizes):
            support = packed_support([states[i] for i in group])
            query = features.padded(group)
            similarities = _similarities(checkpoint.head, settings, query, support.x, support.rows)
            sharpness = torch.stack([states[i].tensors["sharpness"] for i in group])
            logits = class_log_probabilities(
                sharpness[:, None, None] * similarities, support, support.rows.unsqueeze(1)
            )
            own = cut(logits, [[features.lengths[i] for i in group], [states[i].n_way or 0 for i in group]])
            outputs.update(zip(group, map(Output, own), strict=True))
        return [outputs[i] for i in range(len(states))]


def _support_rows(head: Head, support: Packed) -> Tensor:
    return support_in_context(head, support) if has_full_context(head) else support.x


def _similarities(head: Head, options: Mapping[str, Any], query: Tensor, g: Tensor, rows: Tensor) -> Tensor:
    """How alike f(x) and g(x_i) are, (B, Q, N)."""
    if has_full_context(head):
        query = query_in_context(head, query, g, rows, int(options.get("processing_steps", _PROCESSING_STEPS)))
    return similarity_of(options.get("distance", "l2"))(query, g)


def _adapt(packed: Packed, head: Head, similarity: Similarity) -> list[State]:
    x = _support_rows(head, packed)
    left_out = can_leave_out(packed.targets, packed.rows)
    similarities = similarity(x, x)
    check_numbers([similarities])  # numbers so large that their products are not finite give no answers
    sharpness = _sharpness(similarity, similarities, packed, head, left_out)
    qualities: Sequence[Quality | None] = [None] * len(x)
    if not has_full_context(head):
        logits = leave_one_out(sharpness[:, None, None] * similarities, packed)
        qualities = accuracy_qualities(logits, packed.targets, left_out, packed.outputs)
    classes = packed.targets.argmax(2)
    states = []
    for i, (n, n_way) in enumerate(zip(packed.rows.sum(1).tolist(), packed.outputs.sum(1).tolist(), strict=True)):
        tensors = kept_support(x[i, :n], classes[i, :n]) | {"sharpness": sharpness[i].clone()}
        states.append(State("classification", n_way, tensors, qualities[i]))
    return states


def leave_one_out(scores: Tensor, support: Packed) -> Tensor:
    """Each row's log p (B, N, C) by attention to the others; means nothing for the only row of a class.

    ``scores``: (B, N, N), of the rows with each other.
    """
    itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return class_log_probabilities(scores, support, support.rows.unsqueeze(1) & ~itself)


def _sharpness(similarity: Similarity, similarities: Tensor, packed: Packed, head: Head, left_out: Tensor) -> Tensor:
    """(B,): meta-learned, or by leave-one-out about :func:`_usual_sharpness`."""
    if "log_sharpness" in head:
        return head["log_sharpness"].exp().expand(len(similarities))

    def loss(sharpness: Tensor) -> Tensor:
        logits = leave_one_out(sharpness[:, None, None] * similarities, packed)
        return (row_losses(packed.task, logits, packed.targets, packed.outputs) * left_out).sum(1)

    def losses(sharpnesses: Tensor) -> Tensor:
        return torch.stack([loss(sharpness) for sharpness in sharpnesses.unbind(1)], 1)

    return posterior_scale(losses, _usual_sharpness(similarity, similarities, packed), similarities.numel())


def _usual_sharpness(similarity: Similarity, similarities: Tensor, packed: Packed) -> Tensor:
    """(B,), see ``_USUAL_MARGIN``. Two rows are apart by how much more alike each is to itself than to the other."""
    own = similarities.diagonal(dim1=1, dim2=2)
    apart = (own.unsqueeze(1) + own.unsqueeze(2)) / 2 - similarities
    other = packed.rows.unsqueeze(1) & packed.rows.unsqueeze(2)
    other = other & (packed.targets @ packed.targets.transpose(1, 2) < 0.5)
    mean = (apart * other).sum((1, 2)) / other.sum((1, 2)).clamp(min=1)
    n = packed.rows.sum(1)
    to_itself = own.abs().sum(1) / n
    to_origin = similarity(packed.x, torch.zeros_like(packed.x[:, :1])).abs().sum((1, 2)) / n
    round_off = ROUND_OFF * to_itself + ROUND_OFF**2 * to_origin  # of a product; of the square of a difference
    return scale_of_margin(_USUAL_MARGIN, mean, to_itself + to_origin, round_off)
