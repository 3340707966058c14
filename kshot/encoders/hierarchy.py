"""Shared layers of several depths, for tasks that need different ones: Søgaard and Goldberg, "Deep multi-task learning
with low level tasks supervised at lower layers", ACL 2016. With one level it is plain hard parameter sharing.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.vectors import column_moments, vector_tensor


class Hierarchy(Encoder):
    """Vectors (n, width) -> the ends of all levels side by side, (n, sum of their widths).

    ``levels``: the hidden widths of each level, which reads the end of the level below. Every layer is followed by ReLU
    and, in ``train()`` mode, dropout. ``standardised``: inputs are (x - centre) / spread, by :meth:`standardise_on`.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        spec: VectorInput,
        *,
        levels: Sequence[Sequence[int]] = ((64,),),
        dropout: float = 0.0,
        standardised: bool = False,
    ) -> None:
        super().__init__()
        if spec.width is None or not levels or not all(levels):
            raise Invalid("the hierarchy encoder needs an input width and a hidden width in every level")
        self.spec, self.dropout, self.standardised = spec, dropout, standardised
        self.register_buffer("centre", torch.zeros(spec.width))
        self.register_buffer("spread", torch.ones(spec.width))
        starts = [spec.width, *(level[-1] for level in levels)]
        self.levels = nn.ModuleList(
            nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise([start, *level]))
            for start, level in zip(starts, levels, strict=False)
        )
        self.widths = [level[-1] for level in levels]
        self.out_dim = sum(self.widths)

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return vector_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        x, ends = (x - self.centre) / self.spread, []
        for level in self.levels:
            assert isinstance(level, nn.ModuleList)
            for layer in level:
                x = nn.functional.dropout(nn.functional.relu(layer(x)), self.dropout, self.training)
            ends.append(x)
        return torch.cat(ends, dim=1)

    def standardise_on(self, x: Tensor) -> None:
        """Take centre and spread from training inputs (n, width), where the encoder is to standardise."""
        if self.standardised:
            centre, spread = column_moments(x)
            self.centre.copy_(centre)
            self.spread.copy_(spread)

    def level(self, embeddings: Tensor, number: int) -> Tensor:
        """The end of one level, (n, its width), 0 the lowest, -1 the deepest, of what ``forward`` gives."""
        ends: tuple[Tensor, ...] = torch.split(embeddings, self.widths, dim=1)
        return ends[number]
