"""Descent in place: the weights that autograd's steps give, in float64, and nothing that was given is written to."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind, VectorInput
from kshot.encoders.mlp import Mlp
from kshot.learners import paths as ends
from kshot.learners.base import Support
from kshot.learners.batching import Packed, pack
from kshot.learners.inner_loop import InnerLoop, StackedEncoder, Weights, descend, encoder_weights, rows_of
from kshot.learners.losses import balanced_weights
from kshot.learners.paths import paths
from kshot.learners.perceptron import Perceptrons

WIDTH, STEPS = 4, 3
SIZES = {"few rows": (3, 5, 6), "many rows": (35, 50, 40)}


def ragged(task: TaskKind, sizes: tuple[int, ...]) -> Packed:
    """Tasks of 2, 3 and 4 classes, or of values, with so many rows."""
    rng = np.random.default_rng(0)
    supports, x = [], []
    for ways, n in enumerate(sizes, 2):
        values = torch.from_numpy(rng.normal(size=(n, 2)))
        classes = torch.arange(n) % ways
        support = (
            Support(task, np.zeros((n, 1)), classes, ways) if task == "classification" else Support(task, [], values)
        )
        supports.append(support)
        x.append(torch.from_numpy(rng.normal(size=(n, WIDTH))))
    return pack(supports, x)


def model(packed: Packed, *, shared: bool) -> tuple[StackedEncoder, Weights]:
    """Random networks: one start for all tasks, or one for each."""
    torch.manual_seed(0)
    encoder = Mlp(VectorInput(width=WIDTH), hidden=(7, 6), standardised=True).double()
    encoder.standardise_on(packed.x.flatten(0, 1))
    outputs = packed.targets.shape[2]
    start = encoder_weights(encoder) | {
        "weight": torch.randn(outputs, 6).double(),
        "bias": torch.randn(outputs).double(),
    }
    stacked = {name: tensor.detach().expand(len(packed.x), *tensor.shape) for name, tensor in start.items()}
    if shared:
        return StackedEncoder(encoder), stacked
    return StackedEncoder(encoder), {name: w + 0.1 * torch.randn(w.shape, dtype=w.dtype) for name, w in stacked.items()}


def by_autograd(embed: StackedEncoder, start: Weights, packed: Packed, loop: InnerLoop) -> Weights:
    """Through the general form, with ``pulled`` left out: its derivative is autograd's."""
    rows = rows_of(packed, balanced_weights(packed))

    def plain(weights: Weights, x: Tensor) -> Tensor:
        return embed(weights, x)

    with torch.no_grad():
        *_, end = descend(plain, start, packed.task, loop, [rows] * loop.steps)
    return end


@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_steps_in_place_are_the_steps_of_autograd(
    task: TaskKind, sizes: tuple[int, ...], shared: bool, head_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = ragged(task, sizes)
    embed, start = model(packed, shared=shared)
    before, loop = {name: w.clone() for name, w in start.items()}, InnerLoop(STEPS, 0.1, head_first=head_first)
    expected = by_autograd(embed, start, packed, loop)
    monkeypatch.setattr(ends, "descend", forbidden)
    with torch.no_grad():
        (found,) = paths(embed, start, packed, loop, [STEPS - 1])
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-9, atol=1e-12)
        assert torch.equal(start[name], before[name]), name


def forbidden(*_: object) -> object:
    raise AssertionError("the general form was taken")


@pytest.mark.parametrize("n", [5, 40])
def test_weights_may_be_read_between_steps(n: int) -> None:
    """And are the same whether they were read or not."""
    torch.manual_seed(0)
    x, y = torch.randn(2, n, WIDTH).double(), torch.randn(2, n, 1).double()
    layers = [(torch.randn(2, 6, WIDTH).double(), torch.zeros(2, 6).double())]
    layers += [(torch.randn(2, 1, 6).double(), torch.zeros(2, 1).double())]

    def end(look: Callable[[Perceptrons], object]) -> list[Tensor]:
        net = Perceptrons(x, layers)
        for _ in range(STEPS):
            look(net)
            net.step(-0.01 / n * (net.outputs() - y))
        return [tensor for layer in net.weights() for tensor in layer]

    torch.testing.assert_close(end(Perceptrons.weights), end(id), rtol=1e-9, atol=1e-12)
