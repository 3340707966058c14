"""conv4: shapes, query independence, folding, and tasks side by side that are what they are alone."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.encoders.conv4 import Conv4, Norm, Pooling, fold_batch_norm
from kshot.encoders.grouped import EPSILON, moments

SPEC = ImageInput(height=28, width=28, channels=1, invert=True)
CPU = torch.device("cpu")


def pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)


def trained(norm: Norm, channels: int = 64, pooling: Pooling = "max") -> Conv4:
    """An encoder whose norms are away from their first values."""
    torch.manual_seed(1)
    encoder = Conv4(SPEC, norm=norm, channels=channels, pooling=pooling)
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.5)
    return encoder.eval()


@pytest.mark.parametrize(("pooling", "width"), [("max", 64), ("stride", 256)])
def test_out_dim_is_the_width_of_the_embedding(pooling: Pooling, width: int) -> None:
    encoder = Conv4(SPEC, pooling=pooling).eval()
    assert encoder.out_dim == width
    assert encoder.embed(pictures(3), CPU).shape == (3, width)


@pytest.mark.parametrize("norm", ["batch", "group", "affine"])
def test_an_embedding_does_not_depend_on_its_neighbours(norm: Norm) -> None:
    encoder, inputs = trained(norm), pictures(8)
    together = encoder.embed(inputs, CPU)
    alone = torch.cat([encoder.embed(inputs[i : i + 1], CPU) for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_used_while_training() -> None:
    encoder, inputs = trained("batch").train(), pictures(8)
    alone = encoder.embed(inputs[:2], CPU)
    assert not torch.allclose(encoder.embed(inputs, CPU)[:2], alone, atol=1e-3)


def test_folding_the_batch_norm_changes_nothing() -> None:
    batch, affine = trained("batch"), Conv4(SPEC, norm="affine").eval()
    affine.load_state_dict(fold_batch_norm(batch.state_dict()))
    torch.testing.assert_close(affine.embed(pictures(4), CPU), batch.embed(pictures(4), CPU), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 30.0, 100.0])
@pytest.mark.parametrize(("kind", "parts", "over"), [("group", 16, (2, 3, 4)), ("task", 128, (0, 2, 3, 4))])
def test_norms_side_by_side_are_exact_far_from_0(kind: Norm, parts: int, over: tuple[int, ...], offset: float) -> None:
    """Of two tasks beside each other, channels last as convolutions leave them, against the definition in float64."""
    norm, generator = trained(kind).blocks[1].norm, torch.Generator().manual_seed(0)
    maps = torch.randn(3, 128, 7, 7, generator=generator) + offset
    own = {name: torch.stack([p, 2 * p]).detach() for name, p in norm.named_parameters()}
    by_part = maps.double().unflatten(1, (parts, -1))
    variance, mean = torch.var_mean(by_part, over, correction=0, keepdim=True)
    normed = ((by_part - mean) * torch.rsqrt(variance + EPSILON)).flatten(1, 2)
    scale, shift = (own[name].double().reshape(-1, 1, 1) for name in ("weight", "bias"))
    found = norm(maps.contiguous(memory_format=torch.channels_last), own, 2)
    torch.testing.assert_close(found.double(), normed * scale + shift, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_statistics_of_a_support_are_exact_far_from_0(offset: float) -> None:
    maps = torch.randn(3, 16, 7, 7, generator=torch.Generator().manual_seed(0)) + offset
    mean, variance = moments(maps.contiguous(memory_format=torch.channels_last), 2)
    expected = torch.var_mean(maps.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(variance.double(), expected[0].reshape(2, 8), rtol=2e-6, atol=0)
    torch.testing.assert_close(mean.double(), expected[1].reshape(2, 8), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "group", "affine", "task"])
@pytest.mark.parametrize("pooling", ["max", "stride"])
def test_stacked_weights_equal_one_by_one(norm: Norm, pooling: Pooling) -> None:
    """Side by side, and by the form that serves any encoder; some weights shared, and norms by their statistics."""
    encoder = trained(norm, channels=8, pooling=pooling)
    x = encoder.prepare(pictures(6), CPU).reshape(2, 3, 1, 28, 28)
    models = [{n: p.detach() * (1 + 0.1 * i) for n, p in encoder.named_parameters()} for i in range(2)]
    stacked = {
        name: torch.stack([model[name] for model in models]) for name in models[0] if name != "blocks.1.conv.weight"
    }
    statistics = encoder.statistics(stacked, x)
    for weights in (stacked, stacked | statistics):
        many = encoder.stacked(weights, x)
        for i in range(2):
            own = {name: tensor[i] for name, tensor in weights.items()}
            torch.testing.assert_close(many[i], functional_call(encoder, own, (x[i],)), rtol=1e-4, atol=1e-5)
    assert set(statistics) == encoder.statistic_names
    torch.testing.assert_close(
        encoder.stacked(stacked | statistics, x), encoder.stacked(stacked, x), rtol=1e-4, atol=1e-5
    )


def test_shared_weights_are_one_plain_pass() -> None:
    encoder = trained("affine", channels=8)
    x = encoder.prepare(pictures(6), CPU)
    many = encoder.stacked({}, x.reshape(2, 3, 1, 28, 28))
    torch.testing.assert_close(many.flatten(0, 1), encoder(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 28, 28, 3), (2, 27, 28, 1), (2, 28, 28)])
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Invalid, match=r"\(28, 28, 1\)"):
        Conv4(SPEC).prepare(np.zeros(shape, np.uint8), CPU)


def test_pictures_too_small_for_four_halvings_are_refused() -> None:
    with pytest.raises(Invalid, match="16 x 16"):
        Conv4(ImageInput(height=15, width=28, channels=1))


def test_prepare_normalises_as_the_spec_says() -> None:
    spec = ImageInput(height=16, width=16, channels=3, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    x = Conv4(spec).prepare(np.full((1, 16, 16, 3), 255, np.uint8), CPU)
    assert x[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.75, 0.5])
