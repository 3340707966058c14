"""Encoders whose backbone comes from a wheel: it is never trained and never stored; only what follows it is."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from kshot.encoders.base import Encoder

_BACKBONE = "backbone."


class FrozenEncoder(Encoder):
    """Backbone features, then what meta-training may move: normalise, subtract ``centre``, times ``scale``, normalise.

    Pretrained features share a large common part that says nothing about any class; taking it out makes directions
    comparable (Arora et al. 2017 for texts; Wang et al., SimpleShot, 2019 for pictures).
    """

    frozen = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_dim = width
        self.centre = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width))

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """A prepared batch -> the backbone's features (n, width)."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
        return self.tune(features)

    def tune(self, features: Tensor) -> Tensor:
        """Backbone features (n, width) -> embeddings (n, width) of length 1."""
        centred = nn.functional.normalize(features, dim=1) - self.centre
        return nn.functional.normalize(centred * self.scale, dim=1)

    def stored_names(self) -> set[str]:
        return {name for name in super().stored_names() if not name.startswith(_BACKBONE)}
