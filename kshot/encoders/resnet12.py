"""ResNet-12, the larger encoder of few-shot learning (Oreshkin et al., TADAM, 2018; Lee et al., MetaOptNet, 2019).

Theirs is regularised by dropout or DropBlock while it is trained; this one is not, here or at serving time.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.conv4 import GroupNorm
from kshot.encoders.pictures import picture_tensor

Norm = Literal["batch", "group"]

_NORMS: dict[Norm, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "group": GroupNorm}
_SLOPE = 0.1
_CONVOLUTIONS = 3
_GROUPS = 8  # of GroupNorm


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
        if norm == "group" and any(width % _GROUPS for width in widths):
            raise Invalid(f"group norm needs widths that are multiples of {_GROUPS}")
        self.spec = spec
        channels = [spec.channels, *widths]
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, norm) for a, b in pairwise(channels)))
        self.out_dim = channels[-1]

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.blocks(x)
        return maps.mean((2, 3))


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 one, each normed; added, leaky ReLU (0.1), halved by max-pooling."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * _CONVOLUTIONS
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(_NORMS[norm](out_channels) for _ in range(_CONVOLUTIONS))
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), _NORMS[norm](out_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            if i + 1 < _CONVOLUTIONS:
                y = nn.functional.leaky_relu(y, _SLOPE)
        return nn.functional.max_pool2d(nn.functional.leaky_relu(y + self.shortcut(x), _SLOPE), 2)
