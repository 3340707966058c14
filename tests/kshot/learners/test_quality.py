"""What an adapted model says about itself: exact leave-one-out figures, and honest about how little they may mean."""

import numpy as np
import pytest
import torch

from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import State, Support
from kshot.learners.quality import accuracy_quality, mse_quality
from kshot.learners.registry import LEARNERS
from kshot.metrics import wilson_interval
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.references import protonet_loop

EVERYTHING = torch.ones(1000, dtype=torch.bool)


def test_wilson_interval_of_the_textbook() -> None:
    """Newcombe 1998, table I: 81 of 263 -> 0.2553 to 0.3662; 0 of 20 -> 0 to 0.1611."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize(
    ("right", "n", "reliable"), [(4, 4, False), (10, 10, False), (25, 25, True), (50, 100, True), (40, 50, False)]
)
def test_accuracy_is_reliable_once_its_interval_is_narrow(right: int, n: int, reliable: bool) -> None:
    targets = torch.zeros(n, dtype=torch.int64)
    logits = torch.eye(2)[torch.tensor([0] * right + [1] * (n - right))]
    quality = accuracy_quality(logits, targets, EVERYTHING[:n])
    assert (quality.accuracy, quality.n, quality.reliable) == (right / n, n, reliable)


def test_mse_is_reliable_once_its_interval_is_narrow() -> None:
    rng = np.random.default_rng(0)
    few, many = torch.from_numpy(rng.normal(size=(8, 1))), torch.from_numpy(rng.normal(size=(300, 1)))
    assert mse_quality(few).reliable is False
    assert mse_quality(many).reliable is True
    assert mse_quality(many).mse == pytest.approx(float(many.square().mean()))


def test_macro_f1_and_r2_are_those_of_the_rows_left_out() -> None:
    answers, targets = torch.tensor([0, 0, 0, 1, 0, 2]), torch.tensor([0, 0, 0, 1, 1, 2])
    left_out = torch.tensor([True] * 5 + [False])
    macro_f1 = accuracy_quality(torch.eye(3)[answers], targets, left_out).macro_f1
    assert macro_f1 == pytest.approx((6 / 7 + 2 / 3) / 2)
    values = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert mse_quality(torch.full((4, 1), 0.5), targets=values).r2 == pytest.approx(1 - 1 / 5)
    assert mse_quality(torch.full((4, 1), 0.5)).r2 is None


def test_small_errors_of_large_values_keep_their_digits() -> None:
    errors = 1e-4 * torch.rand(20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quality = mse_quality(errors, targets=1e15 + torch.arange(20.0)[:, None])
    assert quality.mse == pytest.approx(float(errors.square().mean()), rel=1e-12)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_errors_that_are_not_finite_give_no_figure(wrong: float) -> None:
    quality = mse_quality(torch.tensor([[1.0], [wrong], [0.0]]), targets=torch.zeros(3, 1))
    assert (quality.mse, quality.r2, quality.n, quality.reliable) == (None, None, 0, False)


def test_a_figure_in_folds_says_so() -> None:
    whole = mse_quality(torch.ones(12, 1), folds=4)
    assert (whole.method, whole.folds, whole.mse, whole.n) == ("k_fold", 4, 1.0, 12)
    few = accuracy_quality(torch.eye(2), torch.arange(2), ~EVERYTHING[:2], folds=2)
    assert (few.method, few.folds, few.accuracy, few.n) == ("k_fold", 2, None, 0)


def adapt(learner: str, x: list[list[float]], y: list[int]) -> State:
    case = Case(learner, "classification", "identity")
    support = Support("classification", np.array(x, np.float32), torch.tensor(y), max(y) + 1)
    return LEARNERS[learner].adapt(checkpoint_of(case), [support], LearnerOptions())[0]


@pytest.mark.parametrize("learner", ["protonet", "ridge"])
def test_an_only_example_cannot_be_left_out(learner: str) -> None:
    rng = np.random.default_rng(0)
    x = (np.eye(5)[[0] * 30 + [1] * 30 + [2]] * 10 + rng.normal(size=(61, 5))).tolist()
    balanced = adapt(learner, x[:60], [0] * 30 + [1] * 30).quality
    assert balanced is not None
    assert (balanced.accuracy, balanced.n, balanced.reliable) == (1.0, 60, True)
    single = adapt(learner, x, [0] * 30 + [1] * 30 + [2]).quality
    assert single is not None
    assert (single.n, single.reliable) == (60, False)
    one_shot = adapt(learner, x[29:31], [0, 1]).quality
    assert one_shot is not None
    assert (one_shot.accuracy, one_shot.n, one_shot.reliable) == (None, 0, False)


def test_prototypes_without_a_row_are_exact() -> None:
    case, rng = Case("protonet", "classification", "mlp"), np.random.default_rng(7)
    checkpoint = checkpoint_of(case)
    for _ in range(20):
        support, _ = random_task(case, rng)
        quality = LEARNERS["protonet"].adapt(checkpoint, [support], LearnerOptions())[0].quality
        features = checkpoint.encoder.embed(support.inputs, torch.device("cpu")).detach()
        answers = protonet_loop.leave_one_out(features, support.targets, support.n_way or 0)
        right = [int(a.argmax()) == int(k) for a, k in zip(answers, support.targets, strict=True) if a is not None]
        assert quality is not None
        assert quality.n == len(right)
        assert quality.accuracy == (sum(right) / len(right) if right else None)


def test_too_little_to_adapt_again() -> None:
    for learner in ("anil", "finetune"):
        quality = adapt(learner, np.eye(5)[:2].tolist(), [0, 1]).quality
        assert quality is not None
        assert (quality.accuracy, quality.n, quality.reliable) == (None, 0, False)
