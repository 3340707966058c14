"""Convolution blocks with their first derivatives written out, for steps of which no graph is kept.

Nothing here is seen by autograd: a block gives its maps and a function from the loss's slope in them to the slopes in
its weights and in its input. Maps of B tasks lie side by side, (N, B * C, H, W) with channels last, as in
:mod:`kshot.encoders.grouped`; slopes are changed in place.

A norm that does not look at the maps goes into the kernel, and so does that of the first block, for the statistics of a
convolution follow from those of its patches: with mean p and covariance S of these, a kernel k has the mean k p and the
variance k S k. Of few input channels S is small and found once for all steps. So the largest maps are passed but for
the convolution and ReLU.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kshot.encoders.derivatives import Shape, convolved, norm_pulled, pulled

Slopes = dict[str, Tensor]
Back = Callable[[Tensor], tuple[Tensor | None, Slopes]]
Fold = Callable[[Tensor, Tensor], Slopes]

KERNEL, SCALE, SHIFT = "conv.weight", "norm.weight", "norm.bias"


class Patches(NamedTuple):
    """Mean (B, 1, c) and covariance (B, c, c) of the patches of each task's pictures, in float64: a kernel may look at
    what hardly varies among them.
    """

    mean: Tensor
    covariance: Tensor


def patches_of(x: Tensor, conv: nn.Conv2d) -> Patches:
    """The patches that ``conv`` sees of pictures (B, N, C, H, W)."""
    assert not isinstance(conv.padding, str)
    (high, wide), (down, across), (top, left) = conv.kernel_size, conv.stride, conv.padding
    padded = nn.functional.pad(x.double(), (left, left, top, top))
    patches = padded.unfold(3, high, down).unfold(4, wide, across)  # (B, N, C, H', W', h, w)
    columns = patches.permute(0, 2, 5, 6, 1, 3, 4).flatten(4).flatten(1, 3)
    mean = columns.mean(2, keepdim=True)
    return Patches(mean.mT, torch.baddbmm(mean @ mean.mT, columns, columns.mT, beta=-1, alpha=1 / columns.shape[2]))


def folded(kernel: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Fold]:
    """Kernels (B, C', C, h, w) with scale and shift (B, C') in them, and the shift; what turns the slopes in these, the
    latter (B * C'), into those of the weights by name."""

    def unfold(of_kernel: Tensor, of_shift: Tensor) -> Slopes:
        of_scale = (of_kernel * kernel).sum((2, 3, 4))
        return {KERNEL: of_kernel * _wide(scale), SCALE: of_scale, SHIFT: of_shift}

    return kernel * _wide(scale), shift, unfold


def normed(
    kernel: Tensor, scale: Tensor, shift: Tensor, patches: Patches, epsilon: float
) -> tuple[Tensor, Tensor, Fold]:
    """The same of a norm by the statistics of the rows: those of its patches."""
    rows = kernel.flatten(2).double()
    seen = rows @ patches.covariance
    rate = torch.rsqrt((seen * rows).sum(2) + epsilon)
    factor = scale * rate
    centre = (rows * patches.mean).sum(2)

    def unfold(of_kernel: Tensor, of_shift: Tensor) -> Slopes:
        """With g the slope after the norm, z its maps, p the centred patches: a scale's is sum(g z), and a kernel's is
        factor * (sum(g p) - rate * sum(g z) * S k).
        """
        centred = of_kernel.flatten(2) - of_shift.unsqueeze(2) * patches.mean
        of_scale = rate * (centred * rows).sum(2)
        slope = factor.unsqueeze(2) * (centred - (rate * of_scale).unsqueeze(2) * seen)
        return {KERNEL: slope.to(kernel.dtype).view_as(kernel), SCALE: of_scale.to(scale.dtype), SHIFT: of_shift}

    moved = (shift - centre * factor).to(shift.dtype)
    return (rows * factor.unsqueeze(2)).to(kernel.dtype).view_as(kernel), moved, unfold


def _wide(channel: Tensor) -> Tensor:
    return channel[:, :, None, None, None]


class Block(NamedTuple):
    """A block's weights, stacked over B tasks, and how it halves its maps.

    ``first``: nobody wants the slope in its input. ``fold``: what puts its norm into the kernel; None where that has to
    look at the maps.
    """

    conv: nn.Conv2d
    kernel: Tensor
    scale: Tensor
    shift: Tensor
    pooled: bool
    first: bool
    fold: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Fold]] | None
    epsilon: float


def forward(block: Block, x: Tensor) -> tuple[Tensor, Back]:
    """Maps (N, B * C, H, W) through a block, which computes in their type; slopes in weights have the weights'."""
    return (_by_fold if block.fold else _by_rows)(block, x)


def _by_fold(block: Block, x: Tensor) -> tuple[Tensor, Back]:
    assert block.fold
    tasks, shape = len(block.kernel), _shape(block)
    kernel, shift, unfold = block.fold(block.kernel, block.scale, block.shift)
    kernel, shift = _joined(kernel.to(x.dtype)), shift.flatten().to(x.dtype)
    out, back = _halved(convolved(x, kernel, shift, shape), block.pooled)

    def pull(slope: Tensor) -> tuple[Tensor | None, Slopes]:
        slope = back(slope)
        of_x, of_kernel, _ = pulled(slope, x, kernel, shape, [not block.first, True, False])
        assert of_kernel is not None
        totals = slope.sum((0, 2, 3), dtype=block.kernel.dtype)
        return of_x, unfold(_of_tasks(of_kernel.to(block.kernel.dtype), tasks), _of_tasks(totals, tasks))

    return out, pull


def _by_rows(block: Block, x: Tensor) -> tuple[Tensor, Back]:
    tasks, shape = len(block.kernel), _shape(block)
    kernel, scale = _joined(block.kernel.to(x.dtype)), block.scale.flatten()
    maps = convolved(x, kernel, None, shape)
    maps.sub_(maps.mean((0, 2, 3), keepdim=True))
    y, mean, rate = torch.native_batch_norm(maps, scale, block.shift.flatten(), None, None, True, 0.0, block.epsilon)
    out, back = _halved(y, block.pooled)

    def pull(slope: Tensor) -> tuple[Tensor | None, Slopes]:
        slope, of_scale, of_shift = norm_pulled(back(slope), maps, scale, mean, rate, block.epsilon)
        of_x, of_kernel, _ = pulled(slope, x, kernel, shape, [not block.first, True, False])
        assert of_kernel is not None
        found = {KERNEL: of_kernel.to(block.kernel.dtype), SCALE: of_scale, SHIFT: of_shift}
        return of_x, {name: _of_tasks(of_weight, tasks) for name, of_weight in found.items()}

    return out, pull


def _halved(maps: Tensor, pooled: bool) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Maps, halved where they are ``pooled``, through ReLU, and what turns the slope in that into the one in them."""
    if not pooled:
        out = maps.relu_()
        return out, lambda slope: _masked(slope, out)
    halved, places = torch.ops.aten.max_pool2d_with_indices(maps, [2, 2])
    halved.relu_()

    def back(slope: Tensor) -> Tensor:
        slope = _masked(slope, halved)
        found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            slope, maps, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )
        return found

    return halved, back


def _masked(slope: Tensor, out: Tensor) -> Tensor:
    """The slope before ReLU, in the memory of that after it, and in the type of the maps."""
    slope = slope.to(out.dtype)
    return torch.ops.aten.threshold_backward.grad_input(slope, out, 0, grad_input=slope)  # type: ignore[no-any-return]


def _joined(kernel: Tensor) -> Tensor:
    """Kernels (B, C', ...) as one of B groups."""
    return kernel.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _of_tasks(joined: Tensor, tasks: int) -> Tensor:
    """(B * C, ...) -> (B, C, ...)."""
    return joined.view(tasks, -1, *joined.shape[1:])


def _shape(block: Block) -> Shape:
    assert not isinstance(block.conv.padding, str)
    return list(block.conv.stride), list(block.conv.padding), len(block.kernel)
