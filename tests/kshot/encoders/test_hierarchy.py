"""Shared layers of several depths."""

import numpy as np
import pytest
import torch

from kshot.contracts.checkpoints import EncoderSpec, VectorInput
from kshot.contracts.errors import Invalid
from kshot.encoders.hierarchy import Hierarchy
from kshot.encoders.registry import build_encoder


def built(width: int | None = 3, **options: object) -> Hierarchy:
    encoder = build_encoder(EncoderSpec(name="hierarchy", options=options), VectorInput(width=width))
    assert isinstance(encoder, Hierarchy)
    return encoder


def test_a_level_reads_the_one_below() -> None:
    torch.manual_seed(0)
    encoder = built(levels=[[4, 5], [6]]).eval()
    x = torch.randn(7, 3)
    first, second = encoder.levels
    z = torch.relu(first[1](torch.relu(first[0](x))))
    ends = encoder(x)
    assert ends.shape == (7, encoder.out_dim) == (7, 11)
    torch.testing.assert_close(encoder.level(ends, 0), z)
    torch.testing.assert_close(encoder.level(ends, -1), torch.relu(second[0](z)))


def test_a_low_level_task_does_not_move_the_deep_layers() -> None:
    encoder = built(levels=[[4], [6]])
    encoder.level(encoder(torch.randn(7, 3)), 0).sum().backward()
    assert encoder.levels[0][0].weight.grad.abs().sum() > 0
    assert encoder.levels[1][0].weight.grad is None or encoder.levels[1][0].weight.grad.abs().sum() == 0


def test_inputs_are_standardised_where_asked() -> None:
    x = np.random.default_rng(0).normal(5, [1, 10, 0], (50, 3)).astype(np.float32)
    torch.manual_seed(0)
    plain = built().eval()
    encoder = built(standardised=True).eval()
    encoder.load_state_dict(plain.state_dict())
    encoder.standardise_on(torch.as_tensor(x))
    plain.standardise_on(torch.as_tensor(x))
    spread = np.where(x.std(0) > 0, x.std(0), 1)
    cpu = torch.device("cpu")
    torch.testing.assert_close(encoder.embed(x, cpu), plain.embed((x - x.mean(0)) / spread, cpu), rtol=1e-4, atol=1e-4)
    assert {"centre", "spread"} <= encoder.stored_names()


def test_a_constant_column_does_not_blow_up() -> None:
    """In single precision the mean of many 0.1 is not quite 0.1, and their spread not quite 0."""
    encoder = built(width=1, standardised=True)
    encoder.standardise_on(torch.full((100_001, 1), 0.1))
    assert float(encoder.spread) == 1.0 and float(encoder.centre) == pytest.approx(0.1)


def test_dropout_is_of_training_alone() -> None:
    encoder, x = built(dropout=0.5), torch.randn(4, 3)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("options", [{"levels": []}, {"levels": [[4], []]}, {"width": None}, {"levels": [["x"]]}])
def test_what_cannot_be_built_is_refused(options: dict) -> None:
    with pytest.raises(Invalid):
        built(**options)
