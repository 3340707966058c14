"""Prototypical networks: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.tasks import LearnerOptions, Quality
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
)
from kshot.learners.batching import Packed, cut, embed_all, groups, in_groups, pack, pad, prediction_groups, unpadded
from kshot.learners.calibration import ROUND_OFF, fit_scale, scale_of_margin
from kshot.learners.losses import embedding_meta_loss
from kshot.learners.quality import accuracy_qualities

_USUAL_MARGIN = 4.0  # where no scale was meta-learned: two prototypes' mean distance is worth this many nats


class Protonet(Learner):
    """logits = -scale * ||f(x) - c_k||^2 with c_k the mean embedding of class k (eqs. 1 and 2).

    The scale is meta-learned (``log_scale``); on a checkpoint of another learner it is fitted by leave-one-out.
    State: ``prototypes`` (n_way, d), ``scale`` ().
    """

    name = "protonet"
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
        return {"log_scale": torch.zeros(())}

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
            return -head["log_scale"].exp() * squared_distances(query, class_means(support))

        return embedding_meta_loss(encoder, device_of(encoder, head), supports, queries, targets, answer)

    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        return self._states(checkpoint, supports, measured=True)

    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        return self._states(checkpoint, supports, measured=False)

    @torch.no_grad()
    def _states(self, checkpoint: Checkpoint, supports: Sequence[Support], *, measured: bool) -> list[State]:
        check_supports(self, supports)
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed_all(checkpoint.encoder, [support.inputs for support in supports], device)

        def adapted(group: list[int]) -> list[State]:
            packed = pack([supports[i] for i in group], features.padded(group))
            return nearest_means(packed, checkpoint.head.get("log_scale"), measured=measured)

        return in_groups(groups(supports), adapted)

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed_all(checkpoint.encoder, queries, device)

        def answers(group: list[int]) -> list[Output]:
            own = [states[i] for i in group]
            logits = negative_distances(own, features.padded(group))
            sizes = [[features.lengths[i] for i in group], [state.tensors["prototypes"].shape[0] for state in own]]
            return [Output(rows) for rows in cut(logits, sizes)]

        return in_groups(prediction_groups(states, queries), answers)


def class_means(packed: Packed) -> Tensor:
    """The mean embedding of each class, (B, C, d); zero for padded classes."""
    sums = torch.bmm(packed.targets.transpose(1, 2), packed.x)
    return sums / packed.class_sizes.clamp(min=1).unsqueeze(2)


def squared_distances(x: Tensor, prototypes: Tensor) -> Tensor:
    """||x - c||^2, (B, Q, C), of (B, Q, d) to (B, C, d).

    By the binomial formula, whose round-off grows with the distance from the origin: hence moved to a prototype.
    """
    origin = prototypes.narrow(1, 0, 1)
    x, prototypes = x - origin, prototypes - origin
    own: Tensor = torch.linalg.vector_norm(x, dim=2, keepdim=True).square()
    others: Tensor = torch.linalg.vector_norm(prototypes, dim=2).square().unsqueeze(1)
    return own + torch.baddbmm(others, x, prototypes.transpose(1, 2), alpha=-2)


def leave_one_out(packed: Packed, prototypes: Tensor) -> Tensor:
    """Squared distances (B, N, C) of each support row to the prototypes made without it.

    Only the row's own class mean moves: x - c' = (x - c) n / (n - 1). Means nothing for the only row of a class.
    """
    counts = packed.same_class
    farther = (counts / (counts - 1).clamp(min=1)).square() - 1
    return squared_distances(packed.x, prototypes) * (packed.targets * farther.unsqueeze(2) + 1)


def negative_distances(states: Sequence[State], query: Tensor) -> Tensor:
    """-scale * ||x - c_k||^2 (B, Q, C) of query embeddings (B, Q, d), by the states' ``prototypes`` and ``scale``."""
    prototypes, scales = (pad([state.tensors[name] for state in states]) for name in ("prototypes", "scale"))
    return squared_distances(query, prototypes) * scales.neg().view(-1, 1, 1)


def nearest_means(packed: Packed, log_scale: Tensor | None, *, measured: bool) -> list[State]:
    """The states of tasks; a scale that is None is fitted by leave-one-out. ``measured``: with their quality.

    Raises AdaptationFailed where a number is not finite.
    """
    prototypes, ways = class_means(packed), packed.widths
    scales = torch.ones_like(prototypes[:, 0, 0]) if log_scale is None else log_scale.exp().expand(len(prototypes))
    qualities: Sequence[Quality | None] = [None] * len(prototypes)
    if measured or log_scale is None:
        logits, left_out = -leave_one_out(packed, prototypes), packed.same_class > 1.5
        if log_scale is None:
            scales = fit_scale(logits, packed, left_out, _usual_scale(packed, prototypes))
        if measured:
            qualities = accuracy_qualities(logits, packed.targets, left_out, packed.outputs)
    stacked = {"prototypes": prototypes, "scale": scales}
    check_numbers(stacked.values())
    own = zip(ways, unpadded(stacked, {"prototypes": ways}), qualities, strict=True)
    return [State("classification", n_way, tensors, quality) for n_way, tensors, quality in own]


def _usual_scale(packed: Packed, prototypes: Tensor) -> Tensor:
    """(B,), see ``_USUAL_MARGIN``."""
    ways = packed.ways.squeeze(1)
    between = squared_distances(prototypes, prototypes) * packed.outputs[:, None] * packed.outputs[:, :, None]
    mean = between.sum((1, 2)) / (ways * (ways - 1)).clamp(min=1)
    size = packed.x.square().sum((1, 2)) / packed.rows.sum(1)
    return scale_of_margin(_USUAL_MARGIN, mean, size, ROUND_OFF**2 * size)
