"""Photographs: EfficientNet-Lite0 features, centred for few-shot learning."""

import torch
from torch import Tensor

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.efficientnet import load_efficientnet_lite0
from kshot.encoders.frozen import FrozenEncoder
from kshot.encoders.pictures import picture_tensor

_SMALLEST = 32
_PICTURES_PER_PASS = 64


class ImageEncoder(FrozenEncoder):
    """uint8 pictures (n, H, W, 3) -> (n, 1280). The network was trained with mean 127/255 and std 128/255."""

    def __init__(self, spec: ImageInput) -> None:
        if spec.channels != 3 or min(spec.height, spec.width) < _SMALLEST:
            raise Invalid(f"the image encoder reads colour pictures of at least {_SMALLEST} x {_SMALLEST} pixels")
        network = load_efficientnet_lite0()
        super().__init__(network.out_dim)
        self.spec = spec
        self.backbone = network

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return picture_tensor(inputs, self.spec, device)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([self.backbone(pictures) for pictures in torch.split(x, _PICTURES_PER_PASS)])
