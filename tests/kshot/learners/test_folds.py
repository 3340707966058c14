"""Quality by folds: what is left out with what, and that it is truly adapting again without it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.contracts.wire import Inputs
from kshot.learners.base import Output, State, Support
from kshot.learners.folds import MOST_FOLDS, STAYS, adapt_with_folds, fold_numbers
from kshot.learners.gradient import GradientLearner
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task

RE_ADAPTING = [name for name, learner in LEARNERS.items() if isinstance(learner, GradientLearner) or name == "finetune"]
seeds = st.integers(0, 2**31)
few = settings(max_examples=20, deadline=None, derandomize=True)


def classes_of(sizes: Sequence[int], rng: np.random.Generator) -> Support:
    labels = torch.from_numpy(rng.permutation(np.repeat(np.arange(len(sizes)), sizes)))
    return Support("classification", rng.normal(size=(len(labels), 5)).astype(np.float32), labels, len(sizes))


@few
@given(sizes=st.lists(st.integers(1, 13), min_size=1, max_size=6), seed=seeds)
def test_no_class_vanishes_and_all_are_spread_evenly(sizes: list[int], seed: int) -> None:
    support = classes_of(sizes, np.random.default_rng(seed))
    numbers, labels = fold_numbers(support), support.targets.numpy()
    for k, size in enumerate(sizes):
        own = numbers[labels == k]
        if size == 1:
            assert own.tolist() == [STAYS]
            continue
        counts = np.bincount(own, minlength=MOST_FOLDS)
        assert counts.sum() == size
        assert counts.max() < size
        assert counts.max() <= -(-size // MOST_FOLDS)
    used = set(numbers[numbers != STAYS].tolist())
    assert used == set(range(min(MOST_FOLDS, sum(size for size in sizes if size > 1))))


@few
@given(seed=seeds)
def test_order_and_names_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    support = classes_of(rng.integers(1, 6, 4).tolist(), rng)
    order, names = rng.permutation(len(support.targets)), torch.from_numpy(rng.permutation(4))
    assert isinstance(support.inputs, np.ndarray)
    other = replace(support, inputs=support.inputs[order], targets=names[support.targets[order]])
    assert fold_numbers(other).tolist() == fold_numbers(support)[order].tolist()


def test_values_and_texts() -> None:
    rng = np.random.default_rng(0)
    rows, order = rng.normal(size=(7, 2)).astype(np.float32), rng.permutation(7)
    values = Support("regression", rows, torch.from_numpy(rows[:, :1]))
    moved = Support("regression", rows[order], torch.from_numpy(rows[order, :1]))
    assert fold_numbers(moved).tolist() == fold_numbers(values)[order].tolist()
    assert sorted(fold_numbers(values).tolist()) == [0, 0, 1, 1, 2, 3, 4]
    assert fold_numbers(Support("regression", rows[:1], torch.zeros(1, 1))).tolist() == [STAYS]
    texts = Support("classification", ["a", "b", "c", "d"], torch.tensor([0, 0, 1, 1]), 2)
    assert sorted(fold_numbers(texts).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("learner", RE_ADAPTING)
def test_is_adapting_again_without_a_part(learner: str) -> None:
    """And no other figure beside other tasks."""
    case, rng = Case(learner, "classification", "mlp"), np.random.default_rng(3)
    checkpoint = checkpoint_of(case)
    supports = [classes_of(sizes, rng) for sizes in ((4, 3, 1), (2, 2), (6, 5), (1, 1))]
    states = LEARNERS[learner].adapt(checkpoint, supports, LearnerOptions())
    assert [told(state.quality)[:3] for state in states] == [
        ("k_fold", 5, 7), ("leave_one_out", None, 4), ("k_fold", 5, 11), ("leave_one_out", None, 0)
    ]  # fmt: skip
    for support, state in zip(supports, states, strict=True):
        assert told(state.quality) == told(LEARNERS[learner].adapt(checkpoint, [support], LearnerOptions())[0].quality)
        numbers, right = fold_numbers(support), []
        for fold in range(numbers.max() + 1):
            kept, out = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
            assert isinstance(support.inputs, np.ndarray)
            part = replace(support, inputs=support.inputs[kept], targets=support.targets[kept])
            without = LEARNERS[learner].adapt_only(checkpoint, [part], LearnerOptions())
            logits = LEARNERS[learner].predict(checkpoint, without, [support.inputs[out]])[0].logits
            assert logits is not None
            right += (logits.argmax(1) == support.targets[out]).tolist()
        assert told(state.quality)[3] == (pytest.approx(np.mean(right)) if right else None)


def told(quality: Quality | None) -> tuple[str, int | None, int, float | None]:
    assert quality is not None
    return quality.method, quality.folds, quality.n, quality.accuracy


@pytest.mark.parametrize("learner", ["maml", "anil", "finetune"])
def test_values_are_measured_too(learner: str) -> None:
    case = Case(learner, "regression", "mlp")
    support, _ = random_task(case, np.random.default_rng(8))
    quality = LEARNERS[learner].adapt(checkpoint_of(case), [support], LearnerOptions())[0].quality
    assert quality is not None
    assert quality.n == len(support.targets)
    assert quality.mse is not None
    assert quality.mse > 0


def test_an_answer_that_is_not_finite_is_no_quality() -> None:
    def adapt(supports: Sequence[Support]) -> list[State]:
        return [State(s.task, s.n_way, {"n": torch.tensor(float(len(s.targets)))}) for s in supports]

    def predict(states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        return [Output(logits=torch.full((len(query), 2), torch.nan)) for query in queries]

    support = classes_of([2, 2], np.random.default_rng(0))
    (state,) = adapt_with_folds(adapt, predict, [support], [fold_numbers(support)])
    assert state.quality is None
    assert float(state.tensors["n"]) == 4
