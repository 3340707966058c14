"""Convolution and batch norm whose second derivatives are as fast as their first.

PyTorch finds the second derivative of a grouped convolution group by group, and that of a batch norm by many small
steps, both in another layout than the maps'. Written out they are convolutions in as many groups, and the norm's own
first derivative once more. Differentiable twice, not oftener; what is not a map is per channel, (C).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Shape = tuple[list[int], list[int], int]
"""Stride, padding, groups."""
_Three = tuple[Tensor | None, Tensor | None, Tensor | None]


def convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, shape: Shape) -> Tensor:
    """``conv2d``, by these derivatives where any are wanted; not under autocast, whose types they do not follow."""
    wanted = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    if not wanted or _under_autocast(x):
        return convolved(x, kernel, bias, shape)
    y: Tensor = Convolution.apply(x, kernel, bias, shape)  # type: ignore[no-untyped-call]
    return y


def norm_by_rows(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Each channel to mean 0 and variance 1 over all rows and places, then ``weight`` times and ``bias`` added."""
    if _under_autocast(x):
        return torch.batch_norm(x, weight, bias, None, None, True, 0.0, epsilon, True)
    y: Tensor = NormByRows.apply(x, weight, bias, epsilon)  # type: ignore[no-untyped-call]
    return y


def _under_autocast(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def convolved(x: Tensor, kernel: Tensor, bias: Tensor | None, shape: Shape) -> Tensor:
    stride, padding, groups = shape
    return torch.conv2d(x, kernel, bias, stride, padding, 1, groups)


def pulled(slope: Tensor, x: Tensor, kernel: Tensor, shape: Shape, wanted: Sequence[bool]) -> _Three:
    """The derivatives in x, kernel and bias, as far as they are ``wanted``."""
    stride, padding, groups = shape
    slope = slope.contiguous(memory_format=torch.channels_last)
    sizes = [kernel.shape[0]] if wanted[2] else None
    found: _Three = torch.ops.aten.convolution_backward(
        slope, x, kernel, sizes, stride, padding, [1, 1], False, [0, 0], groups, wanted
    )
    return found


class Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None, shape: Shape) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.shape = shape
        return convolved(x, kernel, bias, shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        x, kernel = ctx.saved_tensors
        find = ConvolutionSlopes.apply if torch.is_grad_enabled() else pulled
        return *find(slope, x, kernel, ctx.shape, ctx.needs_input_grad[:3]), None


class ConvolutionSlopes(torch.autograd.Function):
    """The first derivatives: linear in the slope, in x and in the kernel, so that theirs are convolutions again."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, x: Tensor, kernel: Tensor, shape: Shape, wanted: Sequence[bool]) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(slope, x, kernel)
        ctx.shape = shape
        return pulled(slope, x, kernel, shape, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor | None, of_kernel: Tensor | None, of_bias: Tensor | None) -> Any:
        slope, x, kernel = ctx.saved_tensors
        needs, shape = ctx.needs_input_grad, ctx.shape
        in_slope = None if of_bias is None else of_bias[:, None, None]
        in_x = in_kernel = None
        if of_x is not None:
            in_slope = _sum(convolved(of_x, kernel, None, shape), in_slope)
            in_kernel = pulled(slope, of_x, kernel, shape, [False, True, False])[1] if needs[2] else None
        if of_kernel is not None:
            of_kernel = of_kernel.contiguous(memory_format=torch.channels_last)
            in_slope = _sum(convolved(x, of_kernel, None, shape), in_slope)
            in_x = pulled(slope, x, of_kernel, shape, [True, False, False])[0] if needs[1] else None
        in_slope = None if in_slope is None else in_slope.expand_as(slope)
        return in_slope, in_x, in_kernel, None, None


def _sum(fresh: Tensor, other: Tensor | None) -> Tensor:
    return fresh if other is None else fresh.add_(other)


class NormByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y, mean, rate = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, weight, mean, rate)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        x, weight, mean, rate = ctx.saved_tensors
        find = NormSlopes.apply if torch.is_grad_enabled() else norm_pulled
        return *find(slope, x, weight, mean, rate, ctx.epsilon), None


class NormSlopes(torch.autograd.Function):
    """The first derivatives. With n entries a channel, z = (x - mean) * rate and g the slope:
    in x weight * rate * (g - sum(g) / n - z * sum(g z) / n), in the weight sum(g z), in the bias sum(g).
    """

    @staticmethod
    def forward(ctx: Any, slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rate: Tensor, epsilon: float) -> Any:
        found = norm_pulled(slope, x, weight, mean, rate, epsilon)
        ctx.save_for_backward(slope, x, weight, mean, rate, found[1], found[2])
        ctx.epsilon = epsilon
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, of_weight: Tensor, of_bias: Tensor) -> Any:
        """The map from g to the slope in x is symmetric: in g its derivative is that map of ``of_x``."""
        slope, x, weight, mean, rate, in_weight, in_bias = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        mapped, along, total = norm_pulled(of_x, x, weight, mean, rate, ctx.epsilon)
        both = (of_x * slope).sum((0, 2, 3)) - total * in_bias / n - along * in_weight / n
        of_slope = rate * (of_weight - weight * rate * along / n)
        of_x_hat = -(of_slope * in_weight + weight * rate.square() * both) / n
        in_slope = torch.addcmul(mapped + _wide(of_bias - of_weight * rate * mean), x, _wide(of_weight * rate))
        in_x = torch.addcmul(_wide(-of_slope * in_bias / n - of_x_hat * rate * mean), slope, _wide(of_slope))
        in_x.addcmul_(x, _wide(of_x_hat * rate)).addcmul_(mapped, _wide(-rate * in_weight / n))
        return in_slope, in_x, rate * both, None, None, None


def norm_pulled(
    slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rate: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    slope = slope.contiguous(memory_format=torch.channels_last)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        slope, x, weight, None, None, mean, rate, True, epsilon, [True, True, True]
    )
    return found


def _wide(channel: Tensor) -> Tensor:
    return channel[:, None, None]
