"""Metric learning by a margin: Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping",
CVPR 2006. The embedding is learned from pairs; the nearest class mean or the nearest neighbours answer."""

from collections.abc import Mapping, Sequence
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
    check_finite,
    check_supports,
    device_of,
    settings_of,
)
from kshot.learners.batching import Packed, alike, cut, embed_all, grouped, groups, pack
from kshot.learners.calibration import posterior_scale
from kshot.learners.kept_support import kept_support, packed_support
from kshot.learners.losses import mean_over_tasks, row_losses
from kshot.learners.neighbours import log_probabilities, votes
from kshot.learners.protonet import nearest_means, negative_distances, squared_distances
from kshot.learners.quality import accuracy_qualities, can_leave_out

_MARGIN, _BALANCE, _NEIGHBOURS = 1.0, 1.0, 5
_USUAL_SMOOTHING = 0.05
_LEAST_SQUARE = 1e-12  # the root of less has no useful derivative
SERVINGS = ("mean", "knn")


class Contrastive(Learner):
    """L = mean over pairs alike of d^2 / 2 + balance * mean over other pairs of max(0, margin - d)^2 / 2 (eq. 4).

    d is the Euclidean distance of two embeddings; all pairs of an episode's support and queries count. The paper sums
    over all pairs; here each kind is averaged, so that ``balance`` means the same for any number of classes.
    Manifest options: ``margin``, ``balance``; ``serving`` by nearest class ``mean`` (the default), which answers as
    protonet, or by ``knn``, ``neighbours`` at most. Nothing is meta-learned but the encoder; how sure the answers are
    is fitted by exact leave-one-out.
    State: ``prototypes`` (n_way, d) and ``scale`` (); or ``support`` (n, d), ``classes`` (n) and ``smoothing`` ().
    """

    name = "contrastive"
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
        _by_neighbours(options)
        return {}

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        margin, balance = float(options.get("margin", _MARGIN)), float(options.get("balance", _BALANCE))

        def loss(support: Packed, query: Packed) -> Tensor:
            x, classes = torch.cat([support.x, query.x], 1), torch.cat([support.targets, query.targets], 1)
            return pair_losses(x, classes, torch.cat([support.rows, query.rows], 1), margin, balance).sum()

        return mean_over_tasks(encoder, device_of(encoder, head), supports, queries, targets, loss)

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        settings = settings_of(checkpoint, options)
        by_neighbours, neighbours = _by_neighbours(settings), int(settings.get("neighbours", _NEIGHBOURS))
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed_all(checkpoint.encoder, [support.inputs for support in supports], device)
        states: dict[int, State] = {}
        for group in groups(supports):
            packed = pack([supports[i] for i in group], features.padded(group))
            adapted = _remembered(packed, neighbours) if by_neighbours else nearest_means(packed, None, measured=True)
            states.update(zip(group, adapted, strict=True))
        return check_finite([states[i] for i in range(len(supports))])

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        neighbours = int(settings_of(checkpoint, LearnerOptions()).get("neighbours", _NEIGHBOURS))
        features = embed_all(checkpoint.encoder, queries, device_of(checkpoint.encoder, checkpoint.head))
        sizes = [
            (alike(len(s.tensors.get("classes", ()))), alike(s.n_way or 0), alike(n))
            for s, n in zip(states, features.lengths, strict=True)
        ]
        outputs: dict[int, Output] = {}
        for group in grouped(sizes):
            chosen, query = [states[i] for i in group], features.padded(group)
            if "classes" in chosen[0].tensors:
                logits = _answers_by_neighbours(chosen, query, neighbours)
            else:
                logits = negative_distances(chosen, query)
            own = cut(logits, [[features.lengths[i] for i in group], [state.n_way or 0 for state in chosen]])
            outputs.update(zip(group, map(Output, own), strict=True))
        return [outputs[i] for i in range(len(states))]


def pair_losses(x: Tensor, classes: Tensor, rows: Tensor, margin: float, balance: float) -> Tensor:
    """The loss (B,) of all pairs: embeddings ``x`` (B, M, d), one-hot ``classes`` (B, M, C), real ``rows`` (B, M)."""
    pairs = torch.triu(rows.unsqueeze(1) & rows.unsqueeze(2), diagonal=1)
    same = classes @ classes.transpose(1, 2) > 0.5
    square = squared_distances(x, x).clamp(min=_LEAST_SQUARE)
    short = (margin - square.sqrt()).clamp(min=0).square()
    return _mean(square / 2, pairs & same) + balance * _mean(short / 2, pairs & ~same)


def _mean(values: Tensor, pairs: Tensor) -> Tensor:
    return (values * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def _by_neighbours(options: Mapping[str, Any]) -> bool:
    serving = options.get("serving", SERVINGS[0])
    if serving not in SERVINGS:
        raise Invalid(f"the option serving of learner contrastive is one of {', '.join(SERVINGS)}")
    return bool(serving == "knn")


def _remembered(packed: Packed, neighbours: int) -> list[State]:
    """The states of models that answer by neighbours."""
    itself = torch.eye(packed.x.shape[1], dtype=torch.bool, device=packed.x.device)
    others = packed.rows.unsqueeze(1) & ~itself
    shares = votes(squared_distances(packed.x, packed.x), packed, others, neighbours)
    left_out = can_leave_out(packed.targets, packed.rows)

    def loss(smoothing: Tensor) -> Tensor:
        logits = log_probabilities(shares, packed, smoothing)
        return (row_losses(packed.task, logits, packed.targets, packed.outputs) * left_out).sum(1)

    def losses(smoothings: Tensor) -> Tensor:
        return torch.stack([loss(smoothing) for smoothing in smoothings.unbind(1)], 1)

    smoothing = posterior_scale(losses, shares.new_full((len(shares),), _USUAL_SMOOTHING), shares.numel())
    classes, qualities = packed.targets.argmax(2), accuracy_qualities(shares, packed.targets, left_out, packed.outputs)
    states = []
    for i, (n, n_way) in enumerate(zip(packed.rows.sum(1).tolist(), packed.outputs.sum(1).tolist(), strict=True)):
        tensors = kept_support(packed.x[i, :n], classes[i, :n]) | {"smoothing": smoothing[i].clone()}
        states.append(State("classification", n_way, tensors, qualities[i]))
    return states


def _answers_by_neighbours(states: Sequence[State], query: Tensor, neighbours: int) -> Tensor:
    support = packed_support(states)
    shares = votes(squared_distances(query, support.x), support, support.rows.unsqueeze(1), neighbours)
    return log_probabilities(shares, support, torch.stack([state.tensors["smoothing"] for state in states]))
