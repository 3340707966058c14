"""A small fully connected network; 2 x 40 ReLU is the sinusoid model of Finn et al. (2017)."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder, Pull
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
        self.spec, self.depth = spec, len(hidden)
        self.standardised, self.layer_norm = standardised, layer_norm
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
        """By batched products. Modules are looked up where they must be: that takes as long as a small product."""
        if not weights:
            return super().stacked(weights, x)
        x = self.columns(x) if self.standardised else x
        for i in range(self.depth):
            weight, bias = (self._weight(weights, f"layers.{i}.{name}") for name in ("weight", "bias"))
            x = torch.baddbmm(bias.unsqueeze(-2), x, weight.expand(len(x), -1, -1).transpose(1, 2))
            if self.layer_norm:
                own = [self._weight(weights, f"norms.{i}.{name}") for name in ("weight", "bias")]
                x = normalised(x) * own[0].unsqueeze(-2) + own[1].unsqueeze(-2)
            x = torch.relu(x)
        return x

    def perceptron(self, x: Tensor) -> tuple[Tensor, list[str]] | None:
        if self.layer_norm:
            return None
        return self.columns(x) if self.standardised else x, [f"layers.{i}" for i in range(self.depth)]

    def pulled(self, weights: Mapping[str, Tensor], x: Tensor, *, reduced: bool = False) -> tuple[Tensor, Pull] | None:
        """Backpropagation by hand: of so small a network, autograd's own work would be most of it."""
        if reduced or self.layer_norm or len(weights) < 2 * self.depth:
            return None
        maps = [self.columns(x) if self.standardised else x]
        for i in range(self.depth):
            weight, bias = weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"]
            maps.append(torch.relu(torch.baddbmm(bias.unsqueeze(1), maps[i], weight.mT)))

        def pull(slope: Tensor) -> dict[str, Tensor]:
            found = {}
            for i in reversed(range(self.depth)):
                slope = torch.ops.aten.threshold_backward(slope, maps[i + 1], 0)
                found[f"layers.{i}.weight"] = torch.bmm(slope.mT, maps[i])
                found[f"layers.{i}.bias"] = slope.sum(1)
                slope = torch.bmm(slope, weights[f"layers.{i}.weight"]) if i else slope
            return found

        return maps[-1], pull

    def _weight(self, weights: Mapping[str, Tensor], name: str) -> Tensor:
        given = weights.get(name)
        return self.get_parameter(name) if given is None else given

    def standardise_on(self, x: Tensor) -> None:
        """Take centre and spread from meta-training inputs (n, width), where the encoder is to standardise."""
        if isinstance(self.columns, Standardise):
            self.columns.fit(x)


def normalised(x: Tensor) -> Tensor:
    """Each row (..., width) to mean 0 and variance 1."""
    return nn.functional.layer_norm(x, x.shape[-1:], eps=_EPSILON)


class LayerNorm(nn.Module):
    """Each row (..., width) to mean 0 and variance 1, then scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return normalised(x) * self.weight + self.bias


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
