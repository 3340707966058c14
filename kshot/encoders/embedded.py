"""Embeddings made already, so that a learner can be run on them: for heads on a part of the rows, or on many draws."""

import torch
from torch import Tensor

from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder


class Embedded(Encoder):
    """An "input" is the number of its row in ``embeddings`` (n, d), which may carry a gradient."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)
        self.out_dim = embeddings.shape[1]

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return torch.as_tensor(inputs, device=device)

    def forward(self, x: Tensor) -> Tensor:
        return self.embeddings[x]
