"""The inner loop of gradient learners, for B tasks at once; one task is B = 1.

A model is an encoder under stacked weights, ``embed(weights, x)``, and a linear head; adapting it is gradient descent
on the sum of the tasks' support losses, so that one derivative of stacked weights is each task's own. The head's part
of it is written out, the encoder's is autograd's. Padded rows weigh nothing and padded classes have no probability, so
each task takes the very steps it would take alone. Everything is differentiable twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.encoders.base import Encoder, Pull
from kshot.learners.batching import Packed
from kshot.learners.losses import NEVER

Weights = dict[str, Tensor]
Embed = Callable[[Weights, Tensor], Tensor]

HEAD_WEIGHT, HEAD_BIAS = "weight", "bias"
_ENCODER = "encoder."
_ADAM_DECAY = 0.999
_ADAM_EPSILON = 1e-5  # not the usual 1e-8, by which the round-off in a gradient that should be 0 becomes a whole step


@dataclass(frozen=True)
class InnerLoop:
    """``steps`` of gradient descent at rate ``lr``. ``first_order``: treat the inner gradients as constants.

    ``head_first``: the first step on classes moves the head alone. This changes nothing where all classes start as one
    row, for then no change of the encoder changes the loss; it saves a backward pass, and the second step finds the
    embeddings made.
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
    """The labelled rows of B tasks.

    ``x``: (B, N, ...). ``y``: (B, N, C). ``share``: (B, N, C), how much each entry's slope counts in the task's loss.
    ``hidden``: (B, 1, C), True for padded classes; None where none is.
    """

    x: Tensor
    y: Tensor
    share: Tensor
    hidden: Tensor | None


def rows_of(packed: Packed, weights: Tensor) -> Rows:
    """Packed tasks as the inner loop takes them. ``weights``: (B, N), each row's share of its task's loss."""
    x, y, share = packed.x, packed.targets, weights.unsqueeze(2)
    real = None if min(packed.widths) == y.shape[-1] else packed.outputs.unsqueeze(1)
    if packed.task == "classification":
        return Rows(x, y, share, None if real is None else ~real)
    if real is None:
        return Rows(x, y, share * (2 / y.shape[-1]), None)
    return Rows(x, y, 2 * share * real / real.sum(2, keepdim=True), None)


def slopes(task: TaskKind, outputs: Tensor, rows: Rows) -> Tensor:
    """The derivative of the sum of the tasks' losses in ``outputs`` (B, N, C): cross-entropy, or mean squared error."""
    return (compared(task, outputs, rows) - rows.y) * rows.share


def compared(task: TaskKind, outputs: Tensor, rows: Rows) -> Tensor:
    """What is compared with ``rows.y``: probabilities, or values."""
    if task == "regression":
        return outputs
    return (outputs if rows.hidden is None else outputs.masked_fill(rows.hidden, NEVER)).softmax(2)


def linear_forward(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Embeddings (B, N, d) -> (B, N, C) through the heads alone."""
    return torch.baddbmm(weights[HEAD_BIAS].unsqueeze(1), x, weights[HEAD_WEIGHT].transpose(1, 2))


def as_they_are(weights: Weights, x: Tensor) -> Tensor:
    """The model of embeddings that are made already: inputs of the head."""
    return x


@dataclass(frozen=True)
class StackedEncoder:
    """The encoder under weights given from outside, each (B, ...), by the names that states give them.

    ``reduced``: its convolutions and products compute in bfloat16; weights, embeddings and all else stay as they are.
    """

    encoder: Encoder
    reduced: bool = False

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        with self._precision(x):
            return self.encoder.stacked(_own(weights), x).to(x.dtype)

    def statistics(self, weights: Mapping[str, Tensor], x: Tensor) -> Weights:
        """See :meth:`Encoder.statistics`."""
        with self._precision(x):
            found = self.encoder.statistics(_own(weights), x)
        return {encoder_name(name): statistic.to(x.dtype) for name, statistic in found.items()}

    def perceptron(self, x: Tensor) -> tuple[Tensor, list[str]] | None:
        """See :meth:`Encoder.perceptron`; the layers by the names that states give them."""
        read = None if self.reduced else self.encoder.perceptron(x)
        return None if read is None else (read[0], [encoder_name(name) for name in read[1]])

    def pulled(self, weights: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        """See :meth:`Encoder.pulled`; the derivatives by the names that states give the weights."""
        found = self.encoder.pulled(_own(weights), x, reduced=self.reduced)
        if found is None:
            return None
        z, own = found
        return z.to(x.dtype), lambda slope: {encoder_name(name): gradient for name, gradient in own(slope).items()}

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, torch.bfloat16) if self.reduced else nullcontext()


def support_statistics(embed: Embed, stacked: Mapping[str, Tensor], x: Tensor) -> Weights:
    """The norm statistics of B supports (B, N, ...) under their own, stacked weights, as weights of the model.

    Empty for encoders whose norms do not look at the task.
    """
    return embed.statistics(stacked, x) if isinstance(embed, StackedEncoder) else {}


def without_statistics(encoder: Encoder, weights: Mapping[str, Tensor]) -> Weights:
    """Adapted weights whose norms take the statistics of the queries instead: the transductive answers of MAML."""
    names = {encoder_name(name) for name in encoder.statistic_names}
    return {name: weight for name, weight in weights.items() if name not in names}


def encoder_name(name: str) -> str:
    """What a state calls the encoder's tensor of that name."""
    return _ENCODER + name


def _own(weights: Mapping[str, Tensor]) -> Weights:
    return {name[len(_ENCODER) :]: weight for name, weight in weights.items() if name.startswith(_ENCODER)}


def encoder_weights(encoder: Encoder) -> Weights:
    """The encoder's parameters by the names that states give them."""
    return {encoder_name(name): getattr(module, own) for name, module, own in encoder.holders}


def descend(
    embed: Embed, start: Weights, task: TaskKind, loop: InnerLoop, batches: Sequence[Rows]
) -> Iterator[Weights]:
    """The stacked weights of B tasks after each step; a step sees one of ``batches``.

    ``start``: (B, ...) each; the encoder's are its own parameters, those that the loop moves.
    Where gradients are wanted they flow through the steps, unless the loop is of first order; else no graph is kept
    from one step to the next.
    """
    through = torch.is_grad_enabled() and not loop.first_order
    weights, squares, z, pull = start, dict[str, Tensor](), None, None
    for step, rows in enumerate(batches):
        rates, fixed = _at(step, loop.rates), stack_of(_at(step, loop.fixed), len(rows.x))
        weights = weights | fixed
        head_only = step == 0 and loop.head_first and task == "classification"
        if z is None or fixed or rows is not batches[step - 1]:
            once = bool(fixed) or step + 1 == len(batches) or rows is not batches[step + 1]
            if head_only and once:  # at the encoder's own weights, which nothing here differentiates
                with torch.set_grad_enabled(through):
                    z, pull = embed(fixed, rows.x), None
            else:
                z, pull = _embedded(embed, weights, fixed, rows.x, through)
        with torch.set_grad_enabled(through):
            gradients, slope = head_gradients(task, weights, z, rows)
            if pull and not head_only:
                gradients |= pull(slope)
                z = None
        if loop.adam:
            squares, gradients = _scaled(squares, gradients, step)
        weights = weights | {n: _moved(weights[n], g, rates.get(n, loop.lr)) for n, g in gradients.items()}
        yield weights


def _embedded(embed: Embed, weights: Weights, fixed: Weights, x: Tensor, through: bool) -> tuple[Tensor, Pull | None]:
    """The embeddings (B, N, d), and what turns a slope in them into those of the encoder's weights that move."""
    moving = {name: w for name, w in weights.items() if name.startswith(_ENCODER) and name not in fixed}
    if not moving:
        return embed(weights, x), None
    if isinstance(embed, StackedEncoder) and not fixed:
        with torch.set_grad_enabled(through):
            written_out = embed.pulled(weights, x)
        if written_out:
            return written_out
    return _differentiated(embed, weights, moving, x, through)


def _differentiated(embed: Embed, weights: Weights, moving: Weights, x: Tensor, through: bool) -> tuple[Tensor, Pull]:
    """The same by autograd."""
    leaves = {name: w if through and w.requires_grad else w.detach().requires_grad_() for name, w in moving.items()}
    with torch.enable_grad():
        z = embed(weights | leaves, x)

    def pull(slope: Tensor) -> Weights:
        own = list(leaves.values())
        return dict(
            zip(leaves, torch.autograd.grad(z, own, slope, create_graph=through, materialize_grads=True), strict=True)
        )

    return z, pull


def head_gradients(task: TaskKind, weights: Weights, z: Tensor, rows: Rows) -> tuple[Weights, Tensor]:
    """The head's gradients by name, and the derivative of the loss in the embeddings ``z``."""
    missed = slopes(task, linear_forward(weights, z), rows)
    gradients = {HEAD_WEIGHT: missed.transpose(1, 2) @ z, HEAD_BIAS: missed.sum(1)}
    return gradients, missed @ weights[HEAD_WEIGHT]


def _moved(weight: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, float):
        return torch.sub(weight, gradient, alpha=rate)
    return weight - rate * gradient


def _at(step: int, entries: Sequence[Weights]) -> Weights:
    return entries[min(step, len(entries) - 1)] if entries else {}


def _scaled(squares: Weights, gradients: Weights, step: int) -> tuple[Weights, Weights]:
    """The running mean squares after this step, and the gradients divided by their roots (Kingma & Ba 2015)."""
    grown = {n: (1 - _ADAM_DECAY) * g.square() + _ADAM_DECAY * squares.get(n, 0) for n, g in gradients.items()}
    unbiased = 1 - _ADAM_DECAY ** (step + 1)
    return grown, {n: g / ((grown[n] / unbiased).sqrt() + _ADAM_EPSILON) for n, g in gradients.items()}


def stack_of(shared: Mapping[str, Tensor], tasks: int) -> Weights:
    """The same weights for each of B tasks, (B, ...); nothing is copied."""
    return {name: weight.expand(tasks, *weight.shape) for name, weight in shared.items()}


def head_for(head: Mapping[str, Tensor], task: TaskKind, n_outputs: int) -> Weights:
    """Where a task's head starts: for classes the one meta-learned row copied to each, for values the head itself.

    So any ``n_way`` is served, and classes are interchangeable (UNICORN-MAML: Ye & Chao, ICLR 2022). A softmax does not
    see what all classes share: which row it is makes no difference, and the first step changes nothing but the head.
    """
    weight, bias = head[HEAD_WEIGHT], head[HEAD_BIAS]
    if task == "classification":
        weight, bias = weight.expand(n_outputs, -1), bias.expand(n_outputs)
    return {HEAD_WEIGHT: weight, HEAD_BIAS: bias}
