"""Votes from a support alone: leave-one-out that really leaves out, neighbours by hand, LogME against a direct sum."""

import math

import pytest
import torch
from torch import Tensor

from kshot.learners.base import Support
from kshot.relations.evidence import knn_left_out, logme, ridge_left_out


def clusters(k_shot: int, apart: float, seed: int = 0) -> tuple[Support, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat_interleave(k_shot)
    x = apart * torch.eye(4, 8)[labels] + torch.randn(len(labels), 8, generator=generator)
    return Support("classification", list(map(str, labels.tolist())), labels, 4), x


def test_left_out_rows_are_answered_where_classes_lie_apart_and_guessed_where_not() -> None:
    apart, mixed = (ridge_left_out(*clusters(5, distance)) for distance in (9.0, 0.0))
    assert apart is not None and mixed is not None
    assert apart.score == 1.0 and apart.n == 20
    assert mixed.score < 0.6 and mixed.log_likelihood < apart.log_likelihood


def test_an_example_per_class_leaves_nothing_to_leave_out() -> None:
    support, x = clusters(1, 9.0)
    assert ridge_left_out(support, x) is None and knn_left_out(support, x) is None


def test_only_rows_with_a_companion_count() -> None:
    labels = torch.tensor([0, 0, 1])
    support = Support("classification", ["a", "b", "c"], labels, 2)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    found = ridge_left_out(support, x)
    assert found is not None and found.n == 2
    assert knn_left_out(support, x) == 1.0


def test_neighbours_by_hand() -> None:
    numbers = Support("regression", ["a"] * 3, torch.tensor([[0.0], [1.0], [5.0]]))
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert knn_left_out(numbers, x) == pytest.approx((1 + 1 + 16) / 3)
    classes = Support("classification", ["a"] * 4, torch.tensor([0, 1, 1, 0]), 2)
    assert knn_left_out(classes, torch.tensor([[0.0], [1.0], [1.5], [9.0]])) == pytest.approx(0.5)


def test_numbers_are_left_out_exactly() -> None:
    """Ridge on one feature at a tiny penalty is a line, so the left-out error of a line is 0 and of noise is not."""
    x = torch.linspace(-2, 2, 9)[:, None]
    line = ridge_left_out(Support("regression", ["a"] * 9, 3 * x + 1), x)
    noise = ridge_left_out(Support("regression", ["a"] * 9, torch.tensor([[1.0, -1.0] * 5]).T[:9]), x)
    assert line is not None and noise is not None
    assert line.score < 1e-3 < 0.5 < noise.score


def brute_evidence(f: Tensor, y: Tensor) -> float:
    """max over (alpha, beta) of log N(y; 0, F F' / alpha + I / beta), on a grid."""
    n, best = len(y), -math.inf
    for a in torch.linspace(-4, 4, 81):
        for b in torch.linspace(-4, 4, 81):
            covariance = f @ f.T * torch.exp(-a) + torch.eye(n).double() * torch.exp(-b)
            value = torch.distributions.MultivariateNormal(torch.zeros(n).double(), covariance).log_prob(y)
            best = max(best, float(value))
    return best / n


def test_logme_is_the_greatest_evidence() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 3, generator=generator).double()
    y = x @ torch.tensor([[1.0], [-1.0], [0.5]]).double() + 0.7 * torch.randn(12, 1, generator=generator).double()
    y = (y - y.mean(0)) / y.std(0, correction=0)
    found = logme(Support("regression", ["a"] * 12, y), x)
    assert found == pytest.approx(brute_evidence(x, y[:, 0]), abs=2e-3)


def test_logme_prefers_features_that_tell() -> None:
    support, x = clusters(5, 6.0)
    assert logme(support, x) > logme(support, x[torch.randperm(20, generator=torch.Generator().manual_seed(0))])
