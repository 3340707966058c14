"""The linear probe on features of any magnitude; that it is the optimum is checked against L-BFGS with the loops."""

import numpy as np
import pytest
import torch

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.batching import pack
from kshot.learners.finetune import probe
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of

CHECKPOINT = checkpoint_of(Case("finetune", "classification", "identity"))
FINETUNE = LEARNERS["finetune"]


def probabilities(x: np.ndarray, y: torch.Tensor, query: np.ndarray, **options: float) -> torch.Tensor:
    support = Support("classification", x.astype(np.float32), y, int(y.max()) + 1)
    states = FINETUNE.adapt(CHECKPOINT, [support], LearnerOptions(**options))
    logits = FINETUNE.predict(CHECKPOINT, states, [query.astype(np.float32)])[0].logits
    assert logits is not None
    return logits.softmax(1)


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (0.001, 0.0), (1.0, 20.0)])
def test_magnitude_and_place_of_the_features_do_not_matter(factor: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    x, query, y = rng.normal(size=(9, 5)), rng.normal(size=(4, 5)), torch.arange(9) % 3
    moved = probabilities(factor * x + shift, y, factor * query + shift)
    torch.testing.assert_close(moved, probabilities(x, y, query), rtol=0, atol=1e-4)


def test_classes_weigh_the_same() -> None:
    x, query, y = np.eye(5)[:2], np.array([[0.5, 0.5, 0, 0, 0]]), torch.tensor([0, 1])
    rows = [0, 0, 0, 1]
    torch.testing.assert_close(probabilities(x[rows], y[rows], query), torch.tensor([[0.5, 0.5]]))


def test_a_larger_penalty_is_less_sure() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5))
    y = torch.from_numpy((x[:, 0] > np.median(x[:, 0])).astype(np.int64))
    sure = [float(probabilities(x, y, x, l2=l2).max(1).values.mean()) for l2 in (0.001, 0.1, 10.0)]
    assert sure[0] > sure[1] > sure[2]
    assert sure[0] > 0.9


def test_equal_rows_tell_nothing() -> None:
    even = probabilities(np.ones((4, 5)), torch.arange(4) % 2, np.full((1, 5), 7.0))
    torch.testing.assert_close(even, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("l2", [None, 1e-4])
def test_many_rows_are_fitted_to_the_optimum_whatever_is_in_the_batch(l2: float | None) -> None:
    """The gradient at the answer is nil beside the penalty, and a quick task beside it does not end it early."""
    rng = np.random.default_rng(0)
    y = torch.arange(300) % 4
    x = torch.from_numpy(rng.normal(size=(4, 8)))[y] + 0.7 * torch.from_numpy(rng.normal(size=(300, 8)))
    easy, other = 30 * torch.eye(8, dtype=torch.float64)[y], torch.from_numpy(rng.normal(size=(300, 8)))
    supports = [Support("classification", part.numpy(), y, 4) for part in (x, easy, other)]
    alone, bias = (found[0].requires_grad_() for found in probe(pack(supports[:1], [x]), l2))
    beside, _ = probe(pack(supports, [x, easy, other]), l2)
    torch.testing.assert_close(beside[0], alone.detach(), rtol=0, atol=1e-9)

    variance = (x - x.mean(0)).square().sum(1).mean()
    penalty = 0.5 * (l2 or 0.1 / 300) * variance * alone.square().sum()
    loss = torch.nn.functional.cross_entropy(x @ alone.T + bias, y) + penalty
    slope, b_slope = torch.autograd.grad(loss, [alone, bias])
    assert float(slope.norm() / (l2 or 0.1 / 300)) < 1e-4
    assert float(b_slope.norm()) < 1e-6


def test_is_not_meta_trained() -> None:
    with pytest.raises(Invalid, match="not meta-trained"):
        FINETUNE.meta_loss(CHECKPOINT.encoder, {}, [], [], [], {})
