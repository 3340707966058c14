"""Where inner loops lead, and what the models there answer.

Where all that moves is linear layers, nobody differentiates through the steps, and each is plain descent at one rate,
the loop is written out (:mod:`~kshot.learners.perceptron`); everything else goes the general way.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.learners import perceptron
from kshot.learners.batching import Packed
from kshot.learners.inner_loop import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    Embed,
    InnerLoop,
    Rows,
    StackedEncoder,
    Weights,
    as_they_are,
    compared,
    descend,
    linear_forward,
    rows_of,
)
from kshot.learners.losses import balanced_weights


def paths(embed: Embed, start: Weights, packed: Packed, loop: InnerLoop, kept: Sequence[int]) -> list[Weights]:
    """The stacked weights of B tasks after each of the ``kept`` steps (0 is the first). ``start``: (B, ...) each."""
    rows = rows_of(packed, balanced_weights(packed))
    if list(kept) == [loop.steps - 1] and (end := _end_in_place(embed, start, packed.task, loop, rows)):
        return [end]
    steps = enumerate(descend(embed, start, packed.task, loop, [rows] * loop.steps))
    return [weights for step, weights in steps if step in kept]


def _end_in_place(embed: Embed, start: Weights, task: TaskKind, loop: InnerLoop, rows: Rows) -> Weights | None:
    """The weights after the last step, where no derivative passes through the steps, each is plain descent at one rate,
    and all that moves is linear layers; else None."""
    through, read = torch.is_grad_enabled() and not loop.first_order, _linear_layers(embed, rows.x)
    if read is None or through or loop.adam or loop.rates or loop.fixed:
        return None
    x, names = read
    if start.keys() != set(chain(*names)):
        return None
    with torch.no_grad():
        net = perceptron.Perceptrons(x, [(start[weight], start[bias]) for weight, bias in names])
        share = rows.share * loop.lr
        aim = rows.y * share
        for step in range(loop.steps):
            move = torch.addcmul(aim, compared(task, net.outputs(), rows), share, value=-1)
            net.step(move, head_only=step == 0 and loop.head_first and task == "classification")
    end = dict(zip(chain(*names), chain(*net.weights()), strict=True))
    if torch.is_grad_enabled():  # where the steps are constants, the end follows its start
        end = {name: start[name] + (tensor - start[name]).detach() for name, tensor in end.items()}
    return end


def _linear_layers(embed: Embed, x: Tensor) -> tuple[Tensor, list[tuple[str, str]]] | None:
    """What the first linear layer of a model reads and all their names, the head's last; None for a model of others."""
    if embed is as_they_are:
        own = list[str]()
    elif isinstance(embed, StackedEncoder) and (found := embed.perceptron(x)):
        x, own = found
    else:
        return None
    return x, [(f"{name}.{HEAD_WEIGHT}", f"{name}.{HEAD_BIAS}") for name in own] + [(HEAD_WEIGHT, HEAD_BIAS)]


def answers(embed: Embed, weights: Weights, x: Tensor) -> Tensor:
    """Inputs (B, N, ...) -> (B, N, C) through the models whose stacked weights these are, heads and all."""
    read = _linear_layers(embed, x)
    if read is None or not weights.keys() >= set(chain(*read[1])):
        return linear_forward(weights, embed(weights, x))
    return perceptron.answers(read[0], [(weights[weight], weights[bias]) for weight, bias in read[1]])
