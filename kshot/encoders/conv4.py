"""Four convolution blocks, as in Vinyals et al. (2016), Finn et al. (2017) and Snell et al. (2017)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.pictures import picture_tensor

Norm = Literal["batch", "group", "affine"]
Pooling = Literal["max", "stride"]

_BLOCKS = 4
_EPSILON = 1e-5


class Conv4(Encoder):
    """uint8 pictures (n, H, W, C) -> (n, channels * H' * W') with H' = H halved four times.

    ``pooling``: ``max`` halves by max-pooling (floor), ``stride`` by a strided convolution (ceiling; a
    quarter of the work).
    ``norm``: ``batch`` uses batch statistics in ``train()`` mode only, where a metric learner is meta-trained, and
    running ones ever after; ``group`` normalises each picture by itself; ``affine`` is a batch norm with its statistics
    folded in, so that a gradient learner can start from a metric learner's weights.
    """

    def __init__(self, spec: ImageInput, *, channels: int = 64, pooling: Pooling = "max", norm: Norm = "batch") -> None:
        super().__init__()
        self.spec = spec
        widths = [spec.channels] + [channels] * _BLOCKS
        self.blocks = nn.Sequential(*(Block(widths[i], widths[i + 1], pooling, norm) for i in range(_BLOCKS)))
        height, width = (_halved(side, pooling) for side in (spec.height, spec.width))
        if height * width == 0:
            raise Invalid(f"conv4 needs pictures of at least {2**_BLOCKS} x {2**_BLOCKS} pixels")
        self.out_dim = channels * height * width

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.blocks(x)
        return embeddings.flatten(1)


class Block(nn.Module):
    """3x3 convolution, norm, halving, ReLU; ReLU comes last, where it has a quarter of the work."""

    def __init__(self, in_channels: int, out_channels: int, pooling: Pooling, norm: Norm) -> None:
        super().__init__()
        stride = 2 if pooling == "stride" else 1
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = _NORMS[norm](out_channels)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if self.pooling == "max":
            x = nn.functional.max_pool2d(x, 2)
        return nn.functional.relu(x)


class Affine(nn.Module):
    """Scale and shift per channel, no statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class GroupNorm(nn.Module):
    """Each picture's channels normalised in 8 groups (Wu & He 2018), then scale and shift.

    Written by hand: native norms under ``vmap`` have given wrong second-order gradients (learning.md, pitfalls).
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1)
        centred = grouped - grouped.mean(dim=2, keepdim=True)
        variance = centred.square().mean(dim=2, keepdim=True)
        normed = (centred * torch.rsqrt(variance + _EPSILON)).reshape(x.shape)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


_NORMS: dict[Norm, type[nn.Module]] = {"batch": nn.BatchNorm2d, "group": GroupNorm, "affine": Affine}


def fold_batch_norm(state: dict[str, Tensor], gain: float = 1.0) -> dict[str, Tensor]:
    """A ``norm="batch"`` encoder's tensors as an ``affine`` one's: the embeddings of eval mode, times ``gain``."""
    folded = {name: tensor for name, tensor in state.items() if name.endswith("conv.weight")}
    for block in range(_BLOCKS):
        norm = f"blocks.{block}.norm"
        scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + _EPSILON)
        folded[f"{norm}.weight"] = scale
        folded[f"{norm}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    last = f"blocks.{_BLOCKS - 1}.norm"  # a factor passes through the maximum and the ReLU that follow
    return folded | {name: folded[name] * gain for name in (f"{last}.weight", f"{last}.bias")}


def _halved(side: int, pooling: Pooling) -> int:
    for _ in range(_BLOCKS):
        side = side // 2 if pooling == "max" else -(-side // 2)
    return side
