"""Encoders by name, and the two that read vectors."""

import numpy as np
import pytest
import torch

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.encoders.mlp import Mlp
from kshot.encoders.registry import build_encoder

CPU = torch.device("cpu")


def test_options_reach_the_encoder() -> None:
    encoder = build_encoder(EncoderSpec(name="mlp", options={"hidden": [7, 5]}), VectorInput(width=3))
    assert encoder.out_dim == 5
    assert encoder.embed(np.ones((2, 3), np.float32), CPU).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "options", "spec", "message"),
    [
        ("nothing", {}, VectorInput(), "unknown encoder"),
        ("text", {}, VectorInput(), "reads text"),
        ("conv4", {}, TextInput(), "reads image"),
        ("conv4", {"norm": "layer"}, ImageInput(height=28, width=28, channels=1), "options"),
        ("mlp", {"depth": 3}, VectorInput(width=2), "options"),
        ("mlp", {}, VectorInput(), "width"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict, spec: object, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        build_encoder(EncoderSpec(name=name, options=options), spec)


def test_identity_hands_vectors_through_at_any_width() -> None:
    encoder = build_encoder(EncoderSpec(name="identity"), VectorInput())
    for width in (1, 9):
        x = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
        np.testing.assert_array_equal(encoder.embed(x, CPU).numpy(), x)
    assert encoder.out_dim == 0


@pytest.mark.parametrize("wrong", [np.ones((2, 4), np.float32), np.ones(3, np.float32), ["text"]])
def test_vectors_of_another_width_are_refused(wrong: object) -> None:
    with pytest.raises(Invalid):
        Mlp(VectorInput(width=3)).prepare(wrong, CPU)
