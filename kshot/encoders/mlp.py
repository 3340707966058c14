"""A small fully connected network; 2 x 40 ReLU is the sinusoid model of Finn et al. (2017)."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.vectors import column_moments, vector_tensor

_EPSILON = 1e-5


class Mlp(Encoder):
    """Vectors (n, width) -> (n, hidden[-1]): linear layers, each followed by ReLU. The head is the learner's.

    For tables: ``standardised`` reads columns as (x - centre) / spread, by :meth:`standardise_on`; both are stored.
    ``layer_norm`` normalises each row after every linear layer (Ba et al. 2016), before its ReLU.
    """

    def __init__(
        self,
        spec: VectorInput,
        *,
        hidden: Sequence[int] = (40, 40),
        standardised: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if spec.width is None:
            raise Invalid("the mlp encoder needs an input width")
        self.spec = spec
        widths = [spec.width, *hidden]
        self.columns = Standardise(spec.width) if standardised else nn.Identity()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(LayerNorm(width) if layer_norm else nn.Identity() for width in hidden)
        self.out_dim, self.row_size = widths[-1], sum(hidden)

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return vector_tensor(inputs, self.spec, device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.columns(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = nn.functional.relu(norm(layer(x)))
        return x

    def stacked(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """By batched products; a layer all of whose weights are shared is asked as it is."""
        x = self.columns(x)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            assert isinstance(layer, nn.Linear)
            weight, bias = (weights.get(f"layers.{i}.{name}") for name in ("weight", "bias"))
            x = linear(x, layer.weight if weight is None else weight, layer.bias if bias is None else bias)
            if isinstance(norm, LayerNorm):
                own = [weights.get(f"norms.{i}.{name}") for name in ("weight", "bias")]
                x = norm(x, *(None if w is None else w.unsqueeze(1) for w in own))
            x = nn.functional.relu(x)
        return x

    def standardise_on(self, x: Tensor) -> None:
        """Take centre and spread from meta-training inputs (n, width), where the encoder is to standardise."""
        if isinstance(self.columns, Standardise):
            self.columns.fit(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, N, in) through a layer for each of B tasks, weight (B, out, in) and bias (B, out), or one for all."""
    if weight.ndim == 2 and bias.ndim == 1:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.expand(len(x), -1, -1).transpose(1, 2))


class LayerNorm(nn.Module):
    """Each row (..., width) to mean 0 and variance 1, then scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """``weight`` and ``bias``: scale and shift instead of its own, of a shape that x can be multiplied with."""
        normed = nn.functional.layer_norm(x, x.shape[-1:], eps=_EPSILON)
        return normed * (self.weight if weight is None else weight) + (self.bias if bias is None else bias)


class Standardise(nn.Module):
    """Columns (n, width) to mean 0 and standard deviation 1, as in the inputs it was fitted on."""

    centre: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def fit(self, x: Tensor) -> None:
        """A column that is constant in ``x`` (n, width) is centred only."""
        centre, spread = column_moments(x)
        self.centre.copy_(centre)
        self.spread.copy_(spread)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) / self.spread
