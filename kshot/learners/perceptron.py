"""Gradient descent of B small networks at once, written out and in place.

A network is linear layers with ReLU between them; its last layer is a learner's head. Each step is a handful of batched
products: autograd's own work, or new memory for every gradient, would cost more than they do. Nothing here is
differentiable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

Linear = tuple[Tensor, Tensor]
"""A layer's weights (B, H, d) and biases (B, H). Never written to; those that all tasks share may be expanded."""

_FEW_ROWS = 32
_through_relu = torch.ops.aten.threshold_backward.grad_input


class Perceptrons:
    """B networks on inputs ``x`` (B, N, d) that stay the same in every step."""

    def __init__(self, x: Tensor, layers: Sequence[Linear]) -> None:
        ones, (first, *others) = x.new_ones(len(x), 1, x.shape[1]), layers
        products_pay = x.shape[1] <= max(_FEW_ROWS, x.shape[2])
        self._layers = [_Bottom(x, *first, ones) if products_pay else _Layer(*first, ones)]
        self._layers += [_Layer(*layer, ones) for layer in others]
        self._maps = [x]

    def outputs(self) -> Tensor:
        """What the last layers give, (B, N, C). Layers below them that have not moved are not asked again."""
        for layer in self._layers[len(self._maps) - 1 : -1]:
            self._maps.append(layer.outputs(self._maps[-1]).relu_())
        return self._layers[-1].outputs(self._maps[-1])

    def step(self, move: Tensor, *, head_only: bool = False) -> None:
        """Add to each weight its gradient times ``-rate``. ``move``: the loss's derivative in the outputs times that,
        in memory that nobody else needs. ``head_only``: to none but the last layers'.
        """
        for depth in range(len(self._layers) - 1, -1, -1):
            layer, below = self._layers[depth], self._maps[depth]
            if depth == 0 or head_only:
                layer.move(move, below)
                break
            passed_on = layer.passed_on(move)
            layer.move(move, below)
            move = _through_relu(passed_on, below, 0, grad_input=passed_on)
        if not head_only:
            del self._maps[1:]

    def weights(self) -> list[Linear]:
        """Where the layers are now; another step may change them."""
        return [layer.weights() for layer in self._layers]


class _Layer:
    """B linear layers, (B, N, d) -> (B, N, H). Shared weights are multiplied as one until they move apart."""

    def __init__(self, weight: Tensor, bias: Tensor, ones: Tensor) -> None:
        self._weight, self._across, self._bias, self._ones = weight, weight.mT, bias.unsqueeze(1), ones
        self._shared = len(weight) > 1 and weight.stride(0) == bias.stride(0) == 0
        self._moved = False

    def outputs(self, x: Tensor) -> Tensor:
        """In memory that nobody else has."""
        if self._shared:
            return linear(x, self._weight[0], self._bias[0, 0])
        return torch.baddbmm(self._bias, x, self._across)

    def passed_on(self, move: Tensor) -> Tensor:
        """The derivative in the inputs (B, N, d), of that in the outputs (B, N, H)."""
        if move.shape[2] == 1:
            return move * self._weight
        return torch.matmul(move, self._weight[0]) if self._shared else torch.bmm(move, self._weight)

    def move(self, move: Tensor, x: Tensor) -> None:
        if self._moved:
            self._weight.baddbmm_(move.mT, x)
            self._bias.baddbmm_(self._ones, move)
            return
        self._weight, self._bias = self._after(move, x)
        self._across, self._moved, self._shared = self._weight.mT, True, False

    def _after(self, move: Tensor, x: Tensor) -> Linear:
        return torch.baddbmm(self._weight, move.mT, x), torch.baddbmm(self._bias, self._ones, move)

    def weights(self) -> Linear:
        return self._weight, self._bias.squeeze(1)


class _Bottom(_Layer):
    """Layers whose inputs x never change: of them the steps need no more than the products of rows.

    Moved by m_1, m_2, ... a weight is W + (m_1 + m_2 + ...)^T x, so that what the layer gives is x W^T + b and
    (x x^T + 1)(m_1 + m_2 + ...), the 1 being the bias's part. Products pay where rows are few, or fewer than the
    numbers of each.
    """

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, ones: Tensor) -> None:
        super().__init__(weight, bias, ones)
        self._x, self._first = x, super().outputs(x)
        self._products = torch.baddbmm(ones, x, x.mT)
        self._moves: Tensor | None = None

    def outputs(self, x: Tensor) -> Tensor:
        return self._first.clone() if self._moves is None else torch.baddbmm(self._first, self._products, self._moves)

    def move(self, move: Tensor, x: Tensor) -> None:
        self._moves = move if self._moves is None else self._moves.add_(move)

    def weights(self) -> Linear:
        if self._moves is None:
            return super().weights()
        weight, bias = self._after(self._moves, self._x)
        return weight, bias.squeeze(1)


def answers(x: Tensor, layers: Sequence[Linear]) -> Tensor:
    """What B networks give for inputs (B, N, d): (B, N, C)."""
    *others, (weight, bias) = layers
    for own, shift in others:
        x = torch.baddbmm(shift.unsqueeze(1), x, own.mT).relu_()
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
