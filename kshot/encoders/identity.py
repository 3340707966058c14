"""No encoder at all: vectors that some other model made, or plain numbers."""

import torch
from torch import Tensor

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.vectors import vector_tensor


class Identity(Encoder):
    """Vectors (n, width) -> the same (n, width). ``out_dim`` is 0 where every task brings its own width."""

    def __init__(self, spec: VectorInput) -> None:
        super().__init__()
        self.spec = spec
        self.out_dim = spec.width or 0

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return vector_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        return x
