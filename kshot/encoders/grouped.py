"""Convolutions and norms of several tasks side by side, each under weights of its own.

The maps of B tasks lie in one tensor (N, B * C, H, W), a task's channels together: a convolution with B groups is then
B convolutions, and nothing has to be moved between layers. One task is B = 1, and shared weights are one task of more
rows. Weights are by name as in the module, (B, ...) each; where one is not given, the module's own serves all tasks.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from kshot.encoders.derivatives import convolution, norm_by_rows

Given = Mapping[str, Tensor]
NormKind = Literal["batch", "group", "affine", "task"]

EPSILON = 1e-5
GROUPS = 8


def side_by_side(x: Tensor) -> Tensor:
    """Pictures (B, N, C, H, W) of B tasks -> (N, B * C, H, W), channels last in memory."""
    tasks, n, channels, height, width = x.shape
    return _channels_last(x.permute(1, 3, 4, 0, 2).reshape(n, height, width, tasks * channels))


def as_one_task(x: Tensor) -> Tensor:
    """Pictures (N, C, H, W), channels last in memory."""
    return _channels_last(x.permute(0, 2, 3, 1))


def _channels_last(x: Tensor) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W). With its strides written out, for those of a single channel do not tell the layout,
    and convolutions take the layout of what they are given.
    """
    n, height, width, channels = x.shape
    size, stride = (n, channels, height, width), (height * width * channels, 1, width * channels, channels)
    return x.contiguous().as_strided(size, stride)


def one_by_one(maps: Tensor, tasks: int) -> Tensor:
    """Maps (N, B * C, H, W) -> (B, N, C, H, W)."""
    n, _, height, width = maps.shape
    return maps.reshape(n, tasks, -1, height, width).transpose(0, 1)


def below(name: str, given: Given) -> dict[str, Tensor]:
    """The tensors of one submodule, by their names in it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in given.items() if key.startswith(prefix)}


def joined(given: Tensor | None, own: Tensor, tasks: int) -> Tensor:
    """A weight (B, c, ...) of B tasks as (B * c, ...); ``own`` (c, ...) for each of them where none is given."""
    if given is not None:
        return given.flatten(0, 1)
    return own if tasks == 1 else own.expand(tasks, *own.shape).flatten(0, 1)


class Norm(nn.Module):
    """A norm of C channels, then ``weight`` times and ``bias`` added.

    Where one takes its statistics from the maps, these are centred before: with channels last PyTorch finds a variance
    as the mean square less the squared mean, and loses half the digits where the mean is a hundred deviations from 0.
    What is subtracted is a constant to autograd, for a norm is the same wherever its maps are moved to.
    """

    weight: Tensor
    bias: Tensor

    def known(self, given: Given, tasks: int) -> tuple[Tensor, Tensor] | None:
        """What it multiplies and adds (B * C), where that does not depend on the maps: it goes into the convolution."""
        return None

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:
        """Maps (N, B * C, H, W), normed; called where :meth:`known` says nothing."""
        raise NotImplementedError

    def scaling(self, given: Given, tasks: int) -> tuple[Tensor, Tensor]:
        """Scale and shift (B * C) after the norm."""
        return joined(given.get("weight"), self.weight, tasks), joined(given.get("bias"), self.bias, tasks)

    def by(self, mean: str, variance: str, given: Given, tasks: int) -> tuple[Tensor, Tensor]:
        """Scale and shift of a norm by the buffers of these names."""
        scale, shift = self.scaling(given, tasks)
        centre, square = (joined(given.get(name), self.get_buffer(name), tasks) for name in (mean, variance))
        scale = scale * torch.rsqrt(square + EPSILON)
        return scale, shift - centre * scale


class _Scaled(Norm):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


class Affine(_Scaled):
    """Scale and shift per channel, no statistics."""

    def known(self, given: Given, tasks: int) -> tuple[Tensor, Tensor] | None:
        return self.scaling(given, tasks)


class GroupNorm(_Scaled):
    """Each picture's channels normalised in 8 groups (Wu & He 2018)."""

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:
        centred = maps - _centres(maps.detach(), GROUPS * tasks)
        return nn.functional.group_norm(centred, GROUPS * tasks, *self.scaling(given, tasks), EPSILON)


def _centres(maps: Tensor, groups: int) -> Tensor:
    """Each group's mean, (N, B * C, 1, 1)."""
    means = maps.mean((2, 3)).reshape(len(maps), groups, -1)
    return means.mean(2, keepdim=True).expand_as(means).flatten(1)[:, :, None, None]


class TaskNorm(_Scaled):
    """Batch norm by the buffers ``mean`` and ``var`` (C), or, while those are empty, by the statistics of the rows.

    In the inner loop the rows are the support, so that each step has the statistics of its own weights (MAML++,
    Antoniou et al. 2019, per-step statistics).
    """

    STATISTICS = ("mean", "var")

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mean: Tensor
        self.var: Tensor
        for name in self.STATISTICS:  # belong to a task, not to the checkpoint
            self.register_buffer(name, torch.empty(0), persistent=False)

    def known(self, given: Given, tasks: int) -> tuple[Tensor, Tensor] | None:
        return self.by(*self.STATISTICS, given, tasks) if "mean" in given or self.mean.numel() else None

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:
        centred = maps - maps.detach().mean((0, 2, 3), keepdim=True)
        return norm_by_rows(centred, *self.scaling(given, tasks), EPSILON)


class BatchNorm(Norm, nn.BatchNorm2d):  # type: ignore[misc]
    """Batch statistics in ``train()`` mode, for one task alone; running ones ever after."""

    def known(self, given: Given, tasks: int) -> tuple[Tensor, Tensor] | None:
        return None if self.training else self.by("running_mean", "running_var", given, tasks)

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:  # type: ignore[override]
        return nn.BatchNorm2d.forward(self, maps)


NORMS: dict[NormKind, Callable[[int], Norm]] = {
    "batch": BatchNorm,
    "group": GroupNorm,
    "affine": Affine,
    "task": TaskNorm,
}


def convolve(conv: nn.Conv2d, norm: Norm, maps: Tensor, weight: Tensor | None, given: Given, tasks: int) -> Tensor:
    """Maps (N, B * C, H, W) of B tasks through a convolution without bias and the norm after it.

    ``weight``: the convolution's (B, ...) and ``given``: the norm's by name, where they are not the modules' own.
    """
    kernel, known = joined(weight, conv.weight, tasks), norm.known(given, tasks)
    if known is None:
        return norm(correlate(conv, maps, kernel, None, tasks), given, tasks)  # type: ignore[no-any-return]
    scale, shift = known
    return correlate(conv, maps, kernel * scale[:, None, None, None], shift, tasks)


def correlate(conv: nn.Conv2d, maps: Tensor, kernel: Tensor, bias: Tensor | None, tasks: int) -> Tensor:
    """The convolution with another kernel (B * C', C, h, w), in B groups."""
    stride, padding = conv.stride, conv.padding
    assert not isinstance(padding, str)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    return convolution(maps, kernel, bias, (list(stride), list(padding), tasks))


def moments(maps: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (B, C) of each channel of each task."""
    maps = maps if maps.dtype == torch.float64 else maps.float()  # of bfloat16 ones as exact as the norm's own
    mean = maps.mean((0, 2, 3), keepdim=True)
    variance = (maps - mean).square().mean((0, 2, 3))  # in a tenth of the time of torch.var_mean
    return mean.reshape(tasks, -1), variance.reshape(tasks, -1)
