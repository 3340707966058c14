"""Each figure against scikit-learn, or against the sum written out; and what it does at its edges."""

import numpy as np
import pytest
from sklearn import metrics as sk

from kshot.contracts.checkpoints import EvaluationRow
from kshot.metrics import (
    by_task,
    calibration_error,
    class_scores,
    mean_interval,
    roc_auc,
    summarise_classes,
    summarise_values,
    value_scores,
)


def random_answers(seed: int, n: int = 80, n_way: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truth; the last class is never the most probable, the first never true."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(n_way, 0.5), n)
    best = probabilities.argmax(1)
    probabilities[best == n_way - 1] = np.roll(probabilities[best == n_way - 1], 1, axis=1)
    return probabilities, np.where(rng.random(n) < 0.5, np.maximum(best, 1), rng.integers(1, n_way, n))


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_are_those_of_scikit_learn(seed: int) -> None:
    probabilities, truth = random_answers(seed)
    answers, scores = probabilities.argmax(1), class_scores(probabilities.argmax(1), truth)
    macro = {"average": "macro", "zero_division": 0}
    assert scores.accuracy == pytest.approx(sk.accuracy_score(truth, answers))
    assert scores.macro_f1 == pytest.approx(sk.f1_score(truth, answers, **macro))
    assert scores.recall == pytest.approx(sk.recall_score(truth, answers, **macro))
    assert scores.precision == pytest.approx(sk.precision_score(truth, answers, **macro))


def test_a_class_never_predicted_has_no_precision() -> None:
    scores = class_scores(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
    assert (scores.accuracy, scores.recall, scores.precision) == (0.75, 0.5, 0.375)
    assert scores.macro_f1 == pytest.approx((6 / 7 + 0) / 2)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_value_scores_are_those_of_scikit_learn(n_targets: int) -> None:
    rng = np.random.default_rng(n_targets)
    truth = rng.normal(3, 5, (40, n_targets)).astype(np.float32)
    values = (truth + rng.normal(0, 3, truth.shape)).astype(np.float32)
    scores = value_scores(values, truth)
    assert scores.mse == pytest.approx(sk.mean_squared_error(truth, values), rel=1e-5)
    assert scores.r2 == pytest.approx(sk.r2_score(truth, values), rel=1e-5)


def test_nothing_is_explained_where_nothing_varies() -> None:
    constant = np.full((7, 1), 0.1, np.float32)
    assert value_scores(constant + 1, constant).r2 is None
    varied = np.hstack([constant, np.arange(7, dtype=np.float32)[:, None]])
    assert value_scores(varied, varied).r2 == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_roc_auc_is_that_of_scikit_learn_where_labels_are_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 60).astype(float)
    scores = (truth + rng.normal(0, 1, 60)).round(1)  # rounded: ties
    known = rng.random(60) < 0.7
    wanted = sk.roc_auc_score(truth[known], scores[known])
    assert roc_auc(scores, np.where(known, truth, np.nan)) == pytest.approx(wanted)


def test_one_class_has_no_roc_auc() -> None:
    assert roc_auc(np.array([0.1, 0.9]), np.array([1.0, np.nan])) is None


def test_calibration_error_is_the_sum_over_bins() -> None:
    """Bins are open below and closed above, as in the paper: (0, 1/15], ..., (14/15, 1]."""
    probabilities, truth = random_answers(9, n=300)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    wanted = 0.0
    for i in range(15):
        rows = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if rows.any():
            wanted += rows.mean() * abs(correct[rows].mean() - confidence[rows].mean())
    assert calibration_error(probabilities, truth) == pytest.approx(wanted)


@pytest.mark.parametrize(("right", "error"), [(90, 0.0), (100, 0.1), (40, 0.5)])
def test_calibration_error_of_ninety_percent_sure(right: int, error: float) -> None:
    truth = np.array([0] * right + [1] * (100 - right))
    assert calibration_error(np.tile([0.9, 0.1], (100, 1)), truth) == pytest.approx(error)


def test_an_interval_covers_the_truth_in_95_of_100() -> None:
    rng = np.random.default_rng(0)
    draws = [mean_interval(rng.normal(2, 3, 50)) for _ in range(2000)]
    covered = np.mean([abs(draw.mean - 2) <= draw.interval for draw in draws])
    assert 0.93 < covered < 0.96
    with pytest.raises(ValueError, match="two episodes"):
        mean_interval([1.0])


def test_figures_over_episodes_of_classes() -> None:
    episodes = [random_answers(seed, n=30) for seed in range(40)]
    figures = summarise_classes(episodes)
    assert set(figures) == {"accuracy", "macro_f1", "recall", "precision", "calibration_error"}
    singly = [class_scores(p.argmax(1), y).recall for p, y in episodes]
    assert figures["recall"] == mean_interval(singly)
    together = calibration_error(*(np.concatenate(parts) for parts in zip(*episodes, strict=True)))
    assert figures["calibration_error"].mean == pytest.approx(together)
    assert together < np.mean([calibration_error(*episode) for episode in episodes])


def test_figures_over_episodes_of_values() -> None:
    rng = np.random.default_rng(1)
    truth = [rng.normal(offset, 2, (20, 1)) for offset in range(30)]
    figures = summarise_values([(y + rng.normal(0, 1, y.shape), y) for y in truth])
    assert figures["mse"].mean == pytest.approx(1, abs=3 * figures["mse"].interval)
    explained = 1 - 1 / (4 * 19 / 20)  # the mean of each episode is its own, which costs one of 20
    assert figures["r2"].mean == pytest.approx(explained, abs=2 * figures["r2"].interval)
    assert 0.01 < figures["r2"].interval < 0.06


def test_the_interval_of_a_pooled_figure_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        truth = rng.normal(0, 2, (40, 20, 1))
        r2 = summarise_values([(y + rng.normal(0, 1, y.shape), y) for y in truth])["r2"]
        covered += abs(r2.mean - (1 - 1 / (4 * 19 / 20))) <= r2.interval
    assert 180 <= covered <= 199


def test_values_that_never_vary_have_no_r2() -> None:
    one = np.ones((5, 1))
    assert set(summarise_values([(one, one)] * 3)) == {"mse"}
    assert set(summarise_values([(one, one), (one, np.arange(5.0)[:, None])])) == {"mse"}


def test_a_table_made_before_reads_without_the_other_figures() -> None:
    row = EvaluationRow.model_validate_json(
        '{"data": "d", "k_shot": 1, "metric": "mse", "mean": 1.0, "interval": 0.1, "episodes": 9}'
    )
    assert row.more == {} and row.inductive


def test_an_interval_over_tasks_covers_the_truth_and_one_over_their_episodes_does_not() -> None:
    """12 tasks of differing difficulty about 0, 25 episodes of each."""
    rng, covered = np.random.default_rng(0), {"tasks": 0, "episodes": 0}
    tasks = np.repeat(np.arange(12), 25)
    for _ in range(300):
        scores = rng.normal(size=12)[tasks] + rng.normal(size=len(tasks))
        for name, found in (("tasks", mean_interval(by_task(scores, tasks))), ("episodes", mean_interval(scores))):
            covered[name] += abs(found.mean) < found.interval
    assert covered["tasks"] > 0.88 * 300 and covered["episodes"] < 0.6 * 300


def test_figures_over_tasks_weigh_each_task_the_same() -> None:
    rng, tasks = np.random.default_rng(0), np.array([0, 0, 0, 0, 1, 2])
    truth = [rng.integers(0, 2, 8) for _ in tasks]
    classes = [(rng.dirichlet([1, 1], 8), own) for own in truth]
    found = summarise_classes(classes, tasks)
    right = [float(np.mean(answers.argmax(1) == own)) for answers, own in classes]
    assert found["accuracy"] == mean_interval([np.mean(right[:4]), right[4], right[5]])
    assert found["calibration_error"].interval > 0
    values = [(own + rng.normal(size=(8, 1)), own) for own in (rng.normal(size=(8, 1)) for _ in tasks)]
    errors = [float(np.mean(np.square(answers - own))) for answers, own in values]
    assert summarise_values(values, tasks)["mse"] == mean_interval([np.mean(errors[:4]), errors[4], errors[5]])
