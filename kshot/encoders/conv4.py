"""Four convolution blocks, as in Vinyals et al. (2016), Finn et al. (2017) and Snell et al. (2017)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.pictures import picture_tensor

Norm = Literal["batch", "group", "affine", "task"]
Pooling = Literal["max", "stride"]

_BLOCKS = 4
_EPSILON = 1e-5


class Conv4(Encoder):
    """uint8 pictures (n, H, W, C) -> (n, channels * H' * W') with H' = H halved four times.

    ``pooling``: ``max`` halves by max-pooling (floor), ``stride`` by a strided convolution (ceiling; a
    quarter of the work).
    ``norm``: ``batch`` uses batch statistics in ``train()`` mode only, where a metric learner is meta-trained, and
    running ones ever after; ``group`` normalises each picture by itself; ``affine`` is a batch norm with its statistics
    folded in, so that a gradient learner can start from a metric learner's weights; ``task`` normalises by the
    statistics of the task's support, for gradient learners.
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
        if norm == "task":
            self.statistic_names = frozenset(
                f"blocks.{i}.norm.{name}" for i in range(_BLOCKS) for name in TaskNorm.STATISTICS
            )

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.blocks(x)
        return embeddings.flatten(1)

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for i, block in enumerate(self.blocks):
            if isinstance(block, Block) and isinstance(block.norm, TaskNorm):
                x, mean, var = block.with_statistics(x)
                found |= {f"blocks.{i}.norm.mean": mean, f"blocks.{i}.norm.var": var}
        return found


class Block(nn.Module):
    """3x3 convolution, norm, halving, ReLU; ReLU comes last, where it has a quarter of the work."""

    def __init__(self, in_channels: int, out_channels: int, pooling: Pooling, norm: Norm) -> None:
        super().__init__()
        stride = 2 if pooling == "stride" else 1
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = _NORMS[norm](out_channels)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        return self._finish(self.norm(self.conv(x)))

    def with_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What ``forward`` gives for rows that are normalised by their own statistics, and those: mean and variance."""
        x = self.conv(x)
        mean, var = moments(x)
        assert isinstance(self.norm, TaskNorm)
        return self._finish(self.norm.by(x, mean, var)), mean, var

    def _finish(self, x: Tensor) -> Tensor:
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


class TaskNorm(Affine):
    """Batch norm by the buffers ``mean`` and ``var`` (C), or, while those are empty, by the statistics of the rows.

    In the inner loop the rows are the support, so that each step has the statistics of its own weights (MAML++,
    Antoniou et al. 2019, per-step statistics). Written by hand: native batch norm under ``vmap`` gives wrong
    second-order gradients (learning.md, pitfalls).
    """

    STATISTICS = ("mean", "var")

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mean: Tensor
        self.var: Tensor
        for name in self.STATISTICS:  # belong to a task, not to the checkpoint
            self.register_buffer(name, torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, var = (self.mean, self.var) if self.mean.numel() else moments(x)
        return self.by(x, mean, var)

    def by(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """``x`` (n, C, H, W) normalised by ``mean`` and ``var`` (C), then scaled and shifted."""
        return super().forward((x - mean[:, None, None]) * torch.rsqrt(var + _EPSILON)[:, None, None])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, (C) both, of (n, C, H, W)."""
    mean = x.mean((0, 2, 3))
    return mean, (x - mean[:, None, None]).square().mean((0, 2, 3))


_NORMS: dict[Norm, type[nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": GroupNorm,
    "affine": Affine,
    "task": TaskNorm,
}


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


def without_batch_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ``norm="batch"`` encoder's tensors as a ``task`` one's, which takes its statistics from the support."""
    return {name: tensor for name, tensor in state.items() if name.endswith(("weight", "bias"))}


def _halved(side: int, pooling: Pooling) -> int:
    for _ in range(_BLOCKS):
        side = side // 2 if pooling == "max" else -(-side // 2)
    return side
