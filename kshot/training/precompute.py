"""The backbone of a frozen encoder gives the same features each time: run it over a pool just once."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.frozen import FrozenEncoder
from kshot.episodes.pool import Pool, take

_BLOCK = 256


class Tuned(Encoder):
    """What a frozen encoder does after its backbone; the inputs are backbone features, float32 (n, width)."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_dim = encoder.out_dim

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return torch.as_tensor(inputs, device=device)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.tune(x)


def precompute(encoder: Encoder, pool: Pool) -> tuple[Encoder, Pool]:
    """The same embeddings without a frozen backbone: an encoder and a pool of features. Others come back as is."""
    if not isinstance(encoder, FrozenEncoder):
        return encoder, pool
    features = []
    with torch.no_grad():
        for start in range(0, len(pool), _BLOCK):
            block = take(pool.inputs, np.arange(start, min(start + _BLOCK, len(pool))))
            features.append(encoder.features(encoder.prepare(block, torch.device("cpu"))))
    return Tuned(encoder), replace(pool, inputs=torch.cat(features).numpy())
