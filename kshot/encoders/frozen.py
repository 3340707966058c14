"""Encoders whose backbone comes from a wheel: it is never trained and never stored; only what follows it is."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from kshot.encoders.base import Encoder

_BACKBONE = "backbone."


class FrozenEncoder(Encoder):
    """Backbone features, normalised, minus the mean direction of the meta-train classes, normalised again.

    Pretrained features share a large common part that says nothing about any class; taking it out makes directions
    comparable (Arora et al. 2017 for texts; Wang et al., SimpleShot, 2019 for pictures).
    """

    centre: Tensor
    frozen = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_dim = width
        self.register_buffer("centre", torch.zeros(width))

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """A prepared batch -> the backbone's features (n, width)."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
        return self.tune(features)

    def centre_on(self, features: Tensor) -> None:
        """Take the mean direction of backbone features (n, width) for the common part."""
        self.centre.copy_(nn.functional.normalize(features, dim=1).mean(dim=0))

    def tune(self, features: Tensor) -> Tensor:
        """Backbone features (n, width) -> embeddings (n, out_dim) of length 1."""
        return nn.functional.normalize(nn.functional.normalize(features, dim=1) - self.centre, dim=1)

    def stored_names(self) -> set[str]:
        return {name for name in super().stored_names() if not name.startswith(_BACKBONE)}
