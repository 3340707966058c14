"""The inner loop of gradient learners, for one task and for many at once.

A model is a pure function ``forward(weights, x) -> outputs``; adapting it is gradient descent on the support loss.
Many tasks go through ``torch.func.vmap``; padded rows weigh nothing and padded classes have no probability, so each
task takes the very steps it would take alone. Everything is differentiable twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
_ADAM_DECAY = 0.999
_ADAM_EPSILON = 1e-5  # not the usual 1e-8, by which the round-off in a gradient that should be 0 becomes a whole step


@dataclass(frozen=True)
class InnerLoop:
    """``steps`` of gradient descent at rate ``lr``. ``first_order``: treat the inner gradients as constants.

    ``head_first``: the first step on classes moves the head alone. This changes nothing where all classes start as one
    row, for then no change of the encoder changes the loss; it saves a backward pass.
    ``adam``: each gradient is divided by the root of its running mean square (Adam with beta1 = 0).
    ``rates``: each step's own rates for some weights, by name. ``fixed``: each step's values of weights that do not
    move. Of both, steps beyond the last take the last.
    """

    steps: int
    lr: float
    first_order: bool = False
    head_first: bool = False
    adam: bool = False
    rates: tuple[Weights, ...] = ()
    fixed: tuple[Weights, ...] = ()


class Rows(NamedTuple):
    """The labelled rows of one task.

    ``x``: (N, ...). ``y``: (N, C). ``w``: (N,), each row's share of the loss. ``columns``: (C,), True where real.
    """

    x: Tensor
    y: Tensor
    w: Tensor
    columns: Tensor


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
    """The norm statistics of B supports (B, N, ...) under their own, stacked weights, as weights of the forward pass.

    Empty for encoders whose norms do not look at the task.
    """
    if not encoder.statistic_names:
        return {}
    reader = _Statistics(encoder)

    def one(weights: Weights, x: Tensor) -> Weights:
        own = {name: w for name, w in weights.items() if name.startswith(_ENCODER)}
        found: Weights = functional_call(reader, own, (x,))
        return {encoder_name(name): statistic for name, statistic in found.items()}

    if len(x) == 1:
        return {name: s.unsqueeze(0) for name, s in one({n: w[0] for n, w in stacked.items()}, x[0]).items()}
    statistics: Weights = vmap(one)(dict(stacked), x)
    return statistics


def without_statistics(encoder: Encoder, weights: Mapping[str, Tensor]) -> Weights:
    """Adapted weights whose norms take the statistics of the queries instead: the transductive answers of MAML."""
    names = {encoder_name(name) for name in encoder.statistic_names}
    return {name: weight for name, weight in weights.items() if name not in names}


def encoder_name(name: str) -> str:
    """What a state calls the encoder's tensor of that name."""
    return _ENCODER + name


class _Statistics(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.encoder.statistics(x)


def encoder_weights(encoder: Encoder) -> Weights:
    """The encoder's parameters under the names ``encoder_forward`` reads."""
    return {encoder_name(name): parameter for name, parameter in encoder.named_parameters()}


def descend(
    forward: Forward, start: Weights, task: TaskKind, loop: InnerLoop, batches: Sequence[Rows]
) -> Iterator[Weights]:
    """The weights after each step of the inner loop; a step sees one of ``batches``."""

    def loss(moving: Weights, still: Weights, rows: Rows) -> Tensor:
        return (row_losses(task, forward(still | moving, rows.x), rows.y, rows.columns) * rows.w).sum()

    weights, squares = start, dict[str, Tensor]()
    for step, rows in enumerate(batches):
        rates, fixed = _at(step, loop.rates), _at(step, loop.fixed)
        head_only = step == 0 and loop.head_first and task == "classification"
        still = {n: w for n, w in weights.items() if head_only and n.startswith(_ENCODER)} | fixed
        moving = {name: weight for name, weight in weights.items() if name not in still}
        gradients = grad(loss)(moving, still, rows)
        if loop.first_order:
            gradients = {name: gradient.detach() for name, gradient in gradients.items()}
        if loop.adam:
            squares, gradients = _scaled(squares, gradients, step)
        weights = weights | fixed | {n: w - rates.get(n, loop.lr) * gradients[n] for n, w in moving.items()}
        yield weights


def _at(step: int, entries: Sequence[Weights]) -> Weights:
    return entries[min(step, len(entries) - 1)] if entries else {}


def _scaled(squares: Weights, gradients: Weights, step: int) -> tuple[Weights, Weights]:
    """The running mean squares after this step, and the gradients divided by their roots (Kingma & Ba 2015)."""
    grown = {n: (1 - _ADAM_DECAY) * g.square() + _ADAM_DECAY * squares.get(n, 0) for n, g in gradients.items()}
    unbiased = 1 - _ADAM_DECAY ** (step + 1)
    return grown, {n: g / ((grown[n] / unbiased).sqrt() + _ADAM_EPSILON) for n, g in gradients.items()}


def paths(
    forward: Forward,
    start: Weights,
    heads: Weights,
    packed: Packed,
    loop: InnerLoop,
    kept: Sequence[int],
    tasks_at_once: int | None = None,
) -> list[Weights]:
    """The weights of B tasks, stacked along a first dimension, after each of the ``kept`` steps (0 is the first).

    All begin with ``start``, and each with its own of ``heads``, which are stacked. ``tasks_at_once`` bounds memory,
    which grows as tasks x steps.
    """

    def one(own: Weights, x: Tensor, y: Tensor, w: Tensor, columns: Tensor) -> list[Weights]:
        batches = [Rows(x, y, w, columns)] * loop.steps
        steps = enumerate(descend(forward, start | own, packed.task, loop, batches))
        return [weights for step, weights in steps if step in kept]

    rows = (packed.x, packed.targets, balanced_weights(packed), packed.outputs)
    if len(packed.x) == 1:
        alone = one({name: weight[0] for name, weight in heads.items()}, *(row[0] for row in rows))
        return [{name: weight.unsqueeze(0) for name, weight in weights.items()} for weights in alone]
    adapted: list[Weights] = vmap(one, chunk_size=tasks_at_once)(heads, *rows)
    return adapted


def adapt_many(
    forward: Forward, start: Weights, packed: Packed, loop: InnerLoop, tasks_at_once: int | None = None
) -> Weights:
    """The weights of B tasks after the inner loop, stacked along a first dimension, all from the same ``start``."""
    return paths(forward, start, {}, packed, loop, [loop.steps - 1], tasks_at_once)[0]


def forward_many(
    forward: Forward, stacked: Mapping[str, Tensor], x: Tensor, tasks_at_once: int | None = None
) -> Tensor:
    """The answers (B, Q, C) of B adapted models to inputs (B, Q, ...) of their own."""
    if len(x) == 1:
        return forward({name: weight[0] for name, weight in stacked.items()}, x[0]).unsqueeze(0)
    answers: Tensor = vmap(forward, chunk_size=tasks_at_once)(dict(stacked), x)
    return answers


def embed_many(encoder: Encoder, x: Tensor) -> Tensor:
    """The embeddings (B, N, d) of B tasks' prepared inputs (B, N, ...), each task with its own norm statistics."""
    if len(x) == 1:
        return encoder(x[0]).unsqueeze(0)  # type: ignore[no-any-return]
    embeddings: Tensor = vmap(encoder)(x)
    return embeddings


def head_for(head: Mapping[str, Tensor], task: TaskKind, n_outputs: int) -> Weights:
    """Where a task's head starts: for classes the one meta-learned row copied to each, for values the head itself.

    So any ``n_way`` is served, and classes are interchangeable (UNICORN-MAML: Ye & Chao, ICLR 2022). A softmax does not
    see what all classes share: which row it is makes no difference, and the first step changes nothing but the head.
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
