"""Conv4 without autograd: the embeddings and the derivatives are those of the form that autograd sees."""

import pytest
import torch
from torch import Tensor

from kshot.contracts.checkpoints import ImageInput
from kshot.encoders.conv4 import Conv4, Norm, Pooling


def drawn(
    norm: Norm, pooling: Pooling, channels: int, tasks: int, dtype: torch.dtype
) -> tuple[Conv4, dict[str, Tensor]]:
    """An encoder and weights of its own for each task."""
    torch.manual_seed(0)
    encoder = Conv4(ImageInput(height=20, width=20, channels=channels), channels=8, pooling=pooling, norm=norm).to(
        dtype
    )
    own = {name: weight.detach() for name, weight in encoder.named_parameters()}
    return encoder, {name: w + 0.1 * torch.randn(tasks, *w.shape, dtype=dtype) for name, w in own.items()}


def by_autograd(
    encoder: Conv4, weights: dict[str, Tensor], x: Tensor, slope: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    z = encoder.stacked(leaves, x)
    return z.detach(), dict(zip(leaves, torch.autograd.grad(z, list(leaves.values()), slope), strict=True))


def written_out(
    encoder: Conv4, weights: dict[str, Tensor], x: Tensor, slope: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        found = encoder.pulled(weights, x)
        assert found
        return found[0], found[1](slope.clone())


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("norm", ["affine", "task"])
def test_same_as_autograd(norm: Norm, pooling: Pooling, channels: int, tasks: int) -> None:
    encoder, weights = drawn(norm, pooling, channels, tasks, torch.float64)
    x = torch.rand(tasks, 4, channels, 20, 20, dtype=torch.float64)
    slope = torch.randn(tasks, 4, encoder.out_dim, dtype=torch.float64)
    ours, theirs = written_out(encoder, weights, x, slope), by_autograd(encoder, weights, x, slope)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_kernel_that_looks_at_what_hardly_varies() -> None:
    """In float32, where the variance it sees is a millionth of that of the pictures."""
    encoder, weights = drawn("task", "stride", 1, 2, torch.float32)
    weights["blocks.0.conv.weight"] -= weights["blocks.0.conv.weight"].mean((3, 4), keepdim=True)
    x = 0.5 + 0.5 * torch.rand(2, 4, 1, 1, 1).expand(-1, -1, -1, 20, 20) + 0.001 * torch.rand(2, 4, 1, 20, 20)
    slope = torch.randn(2, 4, encoder.out_dim)
    exact = [part.double() if isinstance(part, Tensor) else part for part in (x, slope)]
    z, slopes = written_out(encoder, weights, x, slope)
    wide = {name: weight.double() for name, weight in weights.items()}
    expected, of_weights = by_autograd(encoder.double(), wide, *exact)
    torch.testing.assert_close(z.double(), expected, rtol=1e-3, atol=1e-4)
    for name, found in slopes.items():
        assert (found - of_weights[name]).norm() < 1e-3 * of_weights[name].norm(), name


@pytest.mark.parametrize("norm", ["affine", "task"])
def test_reduced_is_bfloat16_of_the_same(norm: Norm) -> None:
    """Slopes in the weights are of the weights' type; what differs is round-off, a 256th in each product."""
    encoder, weights = drawn(norm, "max", 1, 2, torch.float32)
    x = torch.rand(2, 4, 1, 20, 20)
    slope = torch.randn(2, 4, encoder.out_dim)
    z, slopes = written_out(encoder, weights, x, slope)
    with torch.no_grad():
        found = encoder.pulled(weights, x, reduced=True)
        assert found
        reduced = found[1](slope.clone())
    assert found[0].dtype == torch.bfloat16 and (found[0] - z).norm() < 0.05 * z.norm()
    for name, exact in slopes.items():
        assert reduced[name].dtype == torch.float32
        assert 0 < (reduced[name] - exact).norm() < 0.3 * exact.norm(), name


def test_none_where_a_graph_is_wanted_or_weights_are_not_given() -> None:
    encoder, weights = drawn("task", "stride", 1, 1, torch.float32)
    x = torch.rand(1, 4, 1, 20, 20)
    assert encoder.pulled(weights, x) is None
    with torch.no_grad():
        assert encoder.pulled({name: weight for name, weight in weights.items() if "norm" not in name}, x) is None
        assert encoder.pulled(weights | encoder.statistics(weights, x), x) is None
