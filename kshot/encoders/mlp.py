"""A small fully connected network; 2 x 40 ReLU is the sinusoid model of Finn et al. (2017)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.vectors import vector_tensor


class Mlp(Encoder):
    """Vectors (n, width) -> (n, hidden[-1]): linear layers, each followed by ReLU. The head is the learner's."""

    def __init__(self, spec: VectorInput, *, hidden: Sequence[int] = (40, 40)) -> None:
        super().__init__()
        if spec.width is None:
            raise Invalid("the mlp encoder needs an input width")
        self.spec = spec
        widths = [spec.width, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.out_dim = widths[-1]

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return vector_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = nn.functional.relu(layer(x))
        return x
