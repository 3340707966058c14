"""The tabular side of mlp: columns of any scale, layer norm, and manifests from before either."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from kshot.contracts.checkpoints import VectorInput
from kshot.encoders.mlp import Mlp

CPU = torch.device("cpu")
SPEC = VectorInput(width=4)


def table(n: int = 50) -> np.ndarray:
    """Columns of wildly different scales; the last is constant."""
    x = np.random.default_rng(0).normal(size=(n, 4)) * [1e-3, 1, 1e4, 0] + [0, 50, 1e6, 0.1]
    return x.astype(np.float32)


def test_columns_are_standardised_by_the_training_inputs() -> None:
    encoder = Mlp(SPEC, standardised=True)
    encoder.standardise_on(torch.from_numpy(table()))
    columns = encoder.columns(torch.from_numpy(table())).detach()
    torch.testing.assert_close(columns.mean(0), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(columns.std(0, correction=0), torch.tensor([1.0, 1, 1, 0]), rtol=0, atol=1e-3)


def test_the_scale_of_a_column_changes_nothing_once_standardised() -> None:
    outputs = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        encoder = Mlp(SPEC, standardised=True, layer_norm=True).eval()
        x = table() * np.float32(scale)
        encoder.standardise_on(torch.from_numpy(x))
        outputs.append(encoder.embed(x, CPU))
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)


def test_what_was_learned_of_the_columns_is_stored() -> None:
    encoder, other = Mlp(SPEC, standardised=True), Mlp(SPEC, standardised=True)
    encoder.standardise_on(torch.from_numpy(table()))
    assert {"columns.centre", "columns.spread"} <= encoder.stored_names()
    other.load_state_dict(encoder.state_dict())
    assert other.embed(table(), CPU).equal(encoder.embed(table(), CPU))


def test_without_options_it_stores_what_it_always_did() -> None:
    encoder = Mlp(SPEC)
    encoder.standardise_on(torch.from_numpy(table()))
    assert encoder.stored_names() == {f"layers.{i}.{name}" for i in range(2) for name in ("weight", "bias")}


def test_layer_norm_is_before_each_relu() -> None:
    encoder, x = Mlp(SPEC, hidden=(8,), layer_norm=True), torch.randn(3, 4)
    y = encoder.layers[0](x)
    normed = (y - y.mean(1, keepdim=True)) * torch.rsqrt(y.var(1, keepdim=True, correction=0) + 1e-5)
    torch.testing.assert_close(encoder(x), normed.relu(), rtol=1e-4, atol=1e-5)


def test_second_order_gradients_through_layer_norm_match_finite_differences() -> None:
    torch.manual_seed(0)
    encoder = Mlp(SPEC, hidden=(8, 8), layer_norm=True).double()
    x, y = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    start = {name: (p.detach() + 0.1 * torch.randn_like(p)) for name, p in encoder.named_parameters()}

    def outer(shared: dict[str, Tensor]) -> Tensor:
        weights = {name: w.expand(2, *w.shape) for name, w in shared.items()}
        steps = torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
        return loss({n: w - 0.1 * g for (n, w), g in zip(weights.items(), steps, strict=True)})

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return (encoder.stacked(weights, x) - y).square().mean((1, 2)).sum()

    start = {name: w.requires_grad_() for name, w in start.items()}
    found = torch.autograd.grad(outer(start), list(start.values()))
    gradient, step = dict(zip(start, found, strict=True)), 1e-6
    direction = {name: torch.randn_like(w) for name, w in start.items()}
    analytic = sum(float((gradient[name] * d).sum()) for name, d in direction.items())
    ahead, behind = (outer({n: w + s * direction[n] for n, w in start.items()}) for s in (step, -step))
    assert analytic == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_stacked_weights_equal_one_by_one(layer_norm: bool) -> None:
    """Also where some weights are shared."""
    torch.manual_seed(0)
    encoder, x = Mlp(SPEC, hidden=(8, 8), layer_norm=layer_norm), torch.randn(3, 5, 4)
    stacked = {
        n: torch.stack([p.detach() + i * 0.1 * torch.randn_like(p) for i in range(3)])
        for n, p in encoder.named_parameters()
    }
    for shared in ("none", "layers.0.weight", "layers.1.bias", "norms.0.weight"):
        weights = {name: w for name, w in stacked.items() if name != shared}
        many = encoder.stacked(weights, x)
        for i in range(3):
            alone = functional_call(encoder, {name: w[i] for name, w in weights.items()}, (x[i],))
            torch.testing.assert_close(many[i], alone, rtol=1e-5, atol=1e-6)
