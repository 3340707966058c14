"""The inner loop of gradient learners, for one task and for many at once.

A model is a pure function ``forward(weights, x) -> outputs``; adapting it is gradient descent on the support loss.
Many tasks go through ``torch.func.vmap``; padded rows weigh nothing and padded classes have no probability, so each
task takes the very steps it would take alone. Everything is differentiable twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from kshot.contracts.checkpoints import TaskKind
from kshot.encoders.base import Encoder
from kshot.learners.batching import Packed
from kshot.learners.losses import balanced_weights, row_losses

Weights = dict[str, Tensor]
Forward = Callable[[Weights, Tensor], Tensor]

HEAD_WEIGHT, HEAD_BIAS = "weight", "bias"
_ENCODER = "encoder."


@dataclass(frozen=True)
class InnerLoop:
    """``steps`` of gradient descent at rate ``lr``. ``first_order``: treat the inner gradients as constants."""

    steps: int
    lr: float
    first_order: bool = False


def linear_forward(weights: Weights, x: Tensor) -> Tensor:
    """Embeddings (..., d) -> (..., C) through the head alone."""
    return x @ weights[HEAD_WEIGHT].transpose(-1, -2) + weights[HEAD_BIAS].unsqueeze(-2)


def encoder_forward(encoder: Encoder) -> Forward:
    """The forward pass of encoder and head with weights given from outside: prepared inputs (n, ...) -> (n, C)."""

    def forward(weights: Weights, x: Tensor) -> Tensor:
        own = {name.removeprefix(_ENCODER): w for name, w in weights.items() if name.startswith(_ENCODER)}
        return linear_forward(weights, functional_call(encoder, own, (x,)))

    return forward


def support_statistics(encoder: Encoder, stacked: Mapping[str, Tensor], x: Tensor) -> Weights:
    """The norm statistics of B supports (B, N, ...) under weights of their own, stacked, as weights of the forward pass.

    Empty for encoders whose norms do not look at the task.
    """
    if not encoder.statistic_names:
        return {}
    reader = _Statistics(encoder)

    def one(weights: Weights, x: Tensor) -> Weights:
        own = {name: w for name, w in weights.items() if name.startswith(_ENCODER)}
        found: Weights = functional_call(reader, own, (x,))
        return {_ENCODER + name: statistic for name, statistic in found.items()}

    if len(x) == 1:
        return {name: s.unsqueeze(0) for name, s in one({n: w[0] for n, w in stacked.items()}, x[0]).items()}
    statistics: Weights = vmap(one)(dict(stacked), x)
    return statistics


def without_statistics(encoder: Encoder, weights: Mapping[str, Tensor]) -> Weights:
    """Adapted weights whose norms take the statistics of the queries instead: the transductive answers of MAML."""
    names = {_ENCODER + name for name in encoder.statistic_names}
    return {name: weight for name, weight in weights.items() if name not in names}


class _Statistics(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.encoder.statistics(x)


def encoder_weights(encoder: Encoder) -> Weights:
    """The encoder's parameters under the names ``encoder_forward`` reads."""
    return {_ENCODER + name: parameter for name, parameter in encoder.named_parameters()}


def adapt_one(
    forward: Forward, start: Weights, task: TaskKind, loop: InnerLoop, x: Tensor, y: Tensor, w: Tensor, columns: Tensor
) -> Weights:
    """The weights after the inner loop on one support set.

    ``x``: (N, ...). ``y``: (N, C). ``w``: (N,), each row's share of the loss. ``columns``: (C,), True where real.
    """

    def support_loss(weights: Weights) -> Tensor:
        return (row_losses(task, forward(weights, x), y, columns) * w).sum()

    weights = start
    for _ in range(loop.steps):
        gradients = grad(support_loss)(weights)
        if loop.first_order:
            gradients = {name: gradient.detach() for name, gradient in gradients.items()}
        weights = {name: weight - loop.lr * gradients[name] for name, weight in weights.items()}
    return weights


def adapt_many(
    forward: Forward, start: Weights, packed: Packed, loop: InnerLoop, tasks_at_once: int | None = None
) -> Weights:
    """The weights of B tasks after the inner loop, stacked along a first dimension, all from the same ``start``.

    ``tasks_at_once`` bounds memory, which grows as tasks x steps.
    """

    def one(x: Tensor, y: Tensor, w: Tensor, columns: Tensor) -> Weights:
        return adapt_one(forward, start, packed.task, loop, x, y, w, columns)

    rows = (packed.x, packed.targets, balanced_weights(packed), packed.outputs)
    if len(packed.x) == 1:
        return {name: weight.unsqueeze(0) for name, weight in one(*(row[0] for row in rows)).items()}
    adapted: Weights = vmap(one, chunk_size=tasks_at_once)(*rows)
    return adapted


def forward_many(
    forward: Forward, stacked: Mapping[str, Tensor], x: Tensor, tasks_at_once: int | None = None
) -> Tensor:
    """The answers (B, Q, C) of B adapted models to inputs (B, Q, ...) of their own."""
    if len(x) == 1:
        return forward({name: weight[0] for name, weight in stacked.items()}, x[0]).unsqueeze(0)
    answers: Tensor = vmap(forward, chunk_size=tasks_at_once)(dict(stacked), x)
    return answers


def head_for(head: Mapping[str, Tensor], task: TaskKind, n_outputs: int) -> Weights:
    """Where a task's head starts: for classes the one meta-learned row copied to each, for values the head itself.

    So any ``n_way`` is served, and classes are interchangeable (UNICORN-MAML: Ye & Chao, ICLR 2022).
    """
    weight, bias = head[HEAD_WEIGHT], head[HEAD_BIAS]
    if task == "classification":
        weight, bias = weight.expand(n_outputs, -1), bias.expand(n_outputs)
    return {HEAD_WEIGHT: weight, HEAD_BIAS: bias}


def unstack(stacked: Mapping[str, Tensor], i: int, n_outputs: int) -> Weights:
    """Task i's own weights out of a stack, without padded outputs."""
    own = {name: tensor[i].detach() for name, tensor in stacked.items()}
    own |= {name: own[name][:n_outputs] for name in (HEAD_WEIGHT, HEAD_BIAS)}
    return {name: tensor.clone() for name, tensor in own.items()}
