"""ResNet-12, the larger encoder of few-shot learning (Oreshkin et al., TADAM, 2018; Lee et al., MetaOptNet, 2019).

Theirs is regularised by dropout or DropBlock while it is trained; this one is not, here or at serving time.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.grouped import GROUPS, NORMS, Given, as_one_task, below, convolve, one_by_one, side_by_side
from kshot.encoders.pictures import picture_tensor

Norm = Literal["batch", "group"]

_KNOWN = get_args(Norm)
_SLOPE = 0.1
_CONVOLUTIONS = 3


class ResNet12(Encoder):
    """uint8 pictures (n, H, W, C) -> (n, widths[-1]): residual blocks, each halving the picture, then its average.

    ``widths``: channels of the blocks, as in MetaOptNet; their number is the number of halvings.
    ``norm``: ``batch`` uses batch statistics in ``train()`` mode only and running ones ever after; ``group`` normalises
    each picture by itself, for gradient learners (widths must be multiples of 8).
    """

    def __init__(self, spec: ImageInput, *, widths: Sequence[int] = (64, 160, 320, 640), norm: Norm = "batch") -> None:
        super().__init__()
        smallest = 2 ** len(widths)
        if min(spec.height, spec.width) < smallest:
            raise Invalid(f"this resnet12 needs pictures of at least {smallest} x {smallest} pixels")
        if norm not in _KNOWN:
            raise Invalid("resnet12 takes the norms batch and group")
        if norm == "group" and any(width % GROUPS for width in widths):
            raise Invalid(f"group norm needs widths that are multiples of {GROUPS}")
        self.spec, self.norm = spec, norm
        channels = [spec.channels, *widths]
        self.blocks = nn.ModuleList(ResidualBlock(a, b, norm) for a, b in pairwise(channels))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.out_dim = channels[-1]
        areas = (spec.height * spec.width // 4**i for i in range(len(widths)))
        self.row_size = sum(width * area * (_CONVOLUTIONS + 1) for width, area in zip(widths, areas, strict=True))

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        return self._maps(as_one_task(x), {}, 1).mean((2, 3))

    def stacked(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        if not weights or (self.training and self.norm == "batch"):
            return super().stacked(weights, x)
        return one_by_one(self._maps(side_by_side(x), weights, len(x)), len(x)).mean((3, 4))

    def _maps(self, maps: Tensor, weights: Given, tasks: int) -> Tensor:
        for i, block in enumerate(self.blocks):
            maps = block(maps, below(f"blocks.{i}", weights), tasks)
        return maps


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 one, each normed; added, leaky ReLU (0.1), halved by max-pooling."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * _CONVOLUTIONS
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(NORMS[norm](out_channels) for _ in range(_CONVOLUTIONS))
        self.shortcut = nn.ModuleList([nn.Conv2d(in_channels, out_channels, 1, bias=False), NORMS[norm](out_channels)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:
        """Maps (N, B * C, H, W) of B tasks, under the ``given`` weights of the block."""

        def apply(conv: str, norm: str, x: Tensor) -> Tensor:
            modules = self.get_submodule(conv), self.get_submodule(norm)
            return convolve(*modules, x, given.get(f"{conv}.weight"), below(norm, given), tasks)  # type: ignore[arg-type]

        y = apply("convs.0", "norms.0", maps)
        for i in range(1, _CONVOLUTIONS):
            y = apply(f"convs.{i}", f"norms.{i}", nn.functional.leaky_relu(y, _SLOPE))
        y = y + apply("shortcut.0", "shortcut.1", maps)
        return nn.functional.max_pool2d(nn.functional.leaky_relu(y, _SLOPE), 2)
