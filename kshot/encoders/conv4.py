"""Four convolution blocks, as in Vinyals et al. (2016), Finn et al. (2017) and Snell et al. (2017)."""

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders import unrolled
from kshot.encoders.base import Encoder, Pull
from kshot.encoders.grouped import (
    EPSILON,
    NORMS,
    Affine,
    Given,
    NormKind,
    TaskNorm,
    as_one_task,
    below,
    convolve,
    correlate,
    joined,
    moments,
    one_by_one,
    side_by_side,
)
from kshot.encoders.pictures import picture_tensor

Norm = NormKind
Pooling = Literal["max", "stride"]

_BLOCKS = 4
_UNROLLED = frozenset({"affine", "task"})
_STATISTICS = tuple(f"norm.{name}" for name in TaskNorm.STATISTICS)


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
        self.spec, self.norm = spec, norm
        widths = [spec.channels] + [channels] * _BLOCKS
        self.blocks = nn.ModuleList(Block(widths[i], widths[i + 1], pooling, norm) for i in range(_BLOCKS))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        sizes = [_halved(spec.height, pooling, i) * _halved(spec.width, pooling, i) for i in range(_BLOCKS + 1)]
        if sizes[-1] == 0:
            raise Invalid(f"conv4 needs pictures of at least {2**_BLOCKS} x {2**_BLOCKS} pixels")
        self.out_dim = channels * sizes[-1]
        self.row_size = channels * sum(sizes[1:] if pooling == "stride" else sizes[:-1])
        if norm == "task":
            self.statistic_names = frozenset(f"blocks.{i}.{name}" for i in range(_BLOCKS) for name in _STATISTICS)

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        return self._maps(as_one_task(x), {}, 1).flatten(1)

    def stacked(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        if not (weights or self.statistic_names) or (self.training and self.norm == "batch"):
            return super().stacked(weights, x)
        return one_by_one(self._maps(side_by_side(x), weights, len(x)), len(x)).flatten(2)

    def statistics(self, weights: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self.statistic_names:
            self._maps(side_by_side(x), weights, len(x), found)
        return found

    def pulled(self, weights: Mapping[str, Tensor], x: Tensor, *, reduced: bool = False) -> tuple[Tensor, Pull] | None:
        """Where no graph is wanted. The first block is no faster in bfloat16: its maps are large, its products few."""
        if torch.is_grad_enabled() or self.norm not in _UNROLLED or set(weights) != self._moving:
            return None
        maps, backs = side_by_side(x), list[unrolled.Back]()
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            own = block.written_out(below(f"blocks.{i}", weights), None if i else x)
            maps, back = unrolled.forward(own, maps.bfloat16() if i and reduced else maps)
            backs.append(back)
        shape = one_by_one(maps, len(x)).shape

        def pull(slope: Tensor) -> dict[str, Tensor]:
            found: dict[str, Tensor] = {}
            of_maps: Tensor | None = side_by_side(slope.reshape(shape))
            for i, back in reversed(list(enumerate(backs))):
                assert of_maps is not None
                of_maps, own = back(of_maps)
                found |= {f"blocks.{i}.{name}": of_weight for name, of_weight in own.items()}
            return found

        return one_by_one(maps, len(x)).flatten(2), pull

    @cached_property
    def _moving(self) -> set[str]:
        return {name for name, _ in self.named_parameters()}

    def _maps(self, maps: Tensor, weights: Given, tasks: int, found: dict[str, Tensor] | None = None) -> Tensor:
        """Maps (N, B * C, H, W) -> those after the last block; ``found`` takes the statistics before each norm."""
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            own = below(f"blocks.{i}", weights)
            if found is None:
                maps = block(maps, own, tasks)
            else:
                maps, statistics = block.with_statistics(maps, own, tasks)
                found |= {f"blocks.{i}.norm.{name}": statistic for name, statistic in statistics.items()}
        return maps


class Block(nn.Module):
    """3x3 convolution, norm, halving, ReLU; ReLU comes last, where it has a quarter of the work."""

    def __init__(self, in_channels: int, out_channels: int, pooling: Pooling, norm: Norm) -> None:
        super().__init__()
        stride = 2 if pooling == "stride" else 1
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = NORMS[norm](out_channels)
        self.pooling = pooling

    def forward(self, maps: Tensor, given: Given, tasks: int) -> Tensor:
        """Maps (N, B * C, H, W) of B tasks, under the ``given`` weights of the block."""
        maps = convolve(self.conv, self.norm, maps, given.get("conv.weight"), below("norm", given), tasks)
        return self._halved(maps)

    def with_statistics(self, maps: Tensor, given: Given, tasks: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The same by the statistics of these maps, and those, (B, C) by name."""
        kernel = joined(given.get("conv.weight"), self.conv.weight, tasks)
        maps = correlate(self.conv, maps, kernel, None, tasks)
        found = dict(zip(TaskNorm.STATISTICS, moments(maps, tasks), strict=True))
        scale, shift = self.norm.by(*TaskNorm.STATISTICS, below("norm", given) | found, tasks)
        return self._halved(torch.addcmul(shift[:, None, None], maps, scale[:, None, None])), found

    def written_out(self, weights: Given, pictures: Tensor | None) -> unrolled.Block:
        """The block without autograd, under its weights (B, ...). ``pictures``: (B, N, ...), given to the first one."""
        fold = None
        if isinstance(self.norm, Affine):
            fold = unrolled.folded
        elif pictures is not None:
            fold = partial(unrolled.normed, patches=unrolled.patches_of(pictures, self.conv), epsilon=EPSILON)
        kernel, scale, shift = (weights[name] for name in (unrolled.KERNEL, unrolled.SCALE, unrolled.SHIFT))
        return unrolled.Block(
            self.conv, kernel, scale, shift, self.pooling == "max", pictures is not None, fold, EPSILON
        )

    def _halved(self, maps: Tensor) -> Tensor:
        """In memory that is the caller's: what comes here is new, and no derivative looks at it but ReLU's own."""
        return torch.relu_(nn.functional.max_pool2d(maps, 2) if self.pooling == "max" else maps)


def fold_batch_norm(state: dict[str, Tensor], gain: float = 1.0) -> dict[str, Tensor]:
    """A ``norm="batch"`` encoder's tensors as an ``affine`` one's: the embeddings of eval mode, times ``gain``."""
    folded = {name: tensor for name, tensor in state.items() if name.endswith("conv.weight")}
    for block in range(_BLOCKS):
        norm = f"blocks.{block}.norm"
        scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + EPSILON)
        folded[f"{norm}.weight"] = scale
        folded[f"{norm}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    last = f"blocks.{_BLOCKS - 1}.norm"  # a factor passes through the maximum and the ReLU that follow
    return folded | {name: folded[name] * gain for name in (f"{last}.weight", f"{last}.bias")}


def without_batch_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ``norm="batch"`` encoder's tensors as a ``task`` one's, which takes its statistics from the support."""
    return {name: tensor for name, tensor in state.items() if name.endswith(("weight", "bias"))}


def _halved(side: int, pooling: Pooling, times: int) -> int:
    for _ in range(times):
        side = side // 2 if pooling == "max" else -(-side // 2)
    return side
