"""The loss of an outer step: that of the queries, under the weights to which the inner loop led.

Where the inner gradients are constants (first order: Finn et al. 2017, section 5.2), these weights are their start and
something constant, and the loss has one and the same gradient in both. It is found where the queries are passed: no
graph is kept of the inner steps, nor of queries beyond their own call, and encoders that write their derivatives out
do so in training too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kshot.learners.batching import Packed
from kshot.learners.inner_loop import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    Embed,
    InnerLoop,
    StackedEncoder,
    Weights,
    head_gradients,
    linear_forward,
    rows_of,
    support_statistics,
)
from kshot.learners.losses import summed_loss
from kshot.learners.paths import paths


@dataclass(frozen=True)
class OuterLoss:
    """The mean query loss of B tasks, summed over them, as a function of where their inner ``loop`` starts.

    ``shares``: how much of it the loss after each step is. ``by_support``: norms that belong to the task take the
    supports' statistics, not the queries'. ``at_once``: so many tasks' queries share a call where calls share no graph.
    """

    embed: Embed
    loop: InnerLoop
    shares: Mapping[int, float]
    by_support: bool

    def __call__(self, start: Weights, support: Packed, query: Packed, at_once: int) -> Tensor:
        """``start``: (B, ...) each, differentiated where autograd is on."""
        constant = self.loop.first_order and not (self.loop.rates or self.loop.fixed)
        moves = isinstance(self.embed, StackedEncoder) and start.keys() != {HEAD_WEIGHT, HEAD_BIAS}
        if constant and moves and torch.is_grad_enabled():
            return self._at_the_end(start, support, query, at_once)
        ends = paths(self.embed, start, support, self.loop, tuple(self.shares))
        shares = zip(ends, self.shares.values(), strict=True)
        return torch.stack([share * self._loss(end, support.x, query) for end, share in shares]).sum()

    def _at_the_end(self, start: Weights, support: Packed, query: Packed, at_once: int) -> Tensor:
        """By the gradient at the adapted weights, for as many tasks at once as a call may have."""
        losses, parts = [], []
        with torch.no_grad():
            (end,) = paths(self.embed, start, support, self.loop, tuple(self.shares))
            for first in range(0, len(query.x), at_once):
                own = slice(first, first + at_once)
                weights = {name: weight[own] for name, weight in end.items()}
                loss, gradients = self._gradients(weights, support.x[own], _part(query, own))
                losses.append(loss)
                parts.append(gradients)
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        value = torch.stack(losses).sum()
        known: Tensor = _Known.apply(value, list(found.values()), *(start[name] for name in found))  # type: ignore[no-untyped-call]
        return known

    def _gradients(self, weights: Weights, x: Tensor, query: Packed) -> tuple[Tensor, Weights]:
        """The loss at some weights, and its gradients in them by name."""
        found = None
        if isinstance(self.embed, StackedEncoder) and not (self.by_support and self.embed.encoder.statistic_names):
            found = self.embed.pulled(weights, query.x)
        if found is None:
            return self._differentiated(weights, x, query)
        z, pull = found
        real = query.rows.to(query.x.dtype)
        rows = rows_of(query, real / real.sum(1, keepdim=True))
        gradients, slope = head_gradients(query.task, weights, z, rows)
        return summed_loss(linear_forward(weights, z), query), gradients | pull(slope)

    def _differentiated(self, weights: Weights, x: Tensor, query: Packed) -> tuple[Tensor, Weights]:
        """The same by autograd."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        with torch.enable_grad():
            loss = self._loss(leaves, x, query)
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return loss.detach(), dict(zip(leaves, found, strict=True))

    def _loss(self, weights: Weights, x: Tensor, query: Packed) -> Tensor:
        known = support_statistics(self.embed, weights, x) if self.by_support else {}
        return summed_loss(linear_forward(weights, self.embed(weights | known, query.x)), query)


def _part(packed: Packed, own: slice) -> Packed:
    """Some of the tasks."""
    return replace(
        packed, x=packed.x[own], targets=packed.targets[own], lengths=packed.lengths[own], widths=packed.widths[own]
    )


class _Known(torch.autograd.Function):
    """A loss whose gradients in some weights are known."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        return None, None, *(slope * gradient for gradient in ctx.gradients)
