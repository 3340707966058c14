"""How good answers are: one definition of each figure for training, benchmarks and the quality in an answer.

Figures of one task need its answers and its truth. Over episodes come a mean and the half-width of its 95% interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from kshot.contracts.checkpoints import Estimate
from kshot.contracts.wire import Array

_Z = 1.96
_BINS = 15


@dataclass(frozen=True)
class ClassScores:
    """In [0, 1], more is better. ``macro_f1``, ``recall`` and ``precision`` are plain means over classes.

    The classes that count occur in the truth or among the answers. One that is never predicted has precision 0, one
    that never occurs has recall 0, and F1 is 0 for both (scikit-learn's ``zero_division=0``).
    """

    accuracy: float
    macro_f1: float
    recall: float
    precision: float


@dataclass(frozen=True)
class ValueScores:
    """``mse``: in squared units of the values, mean over targets. ``r2``: see :func:`r_squared`."""

    mse: float
    r2: float | None


def class_scores(answers: Array, truth: Array) -> ClassScores:
    """``answers``, ``truth``: whole numbers (n,), n >= 1."""
    classes = np.union1d(answers, truth)
    answered, true = answers[:, None] == classes, truth[:, None] == classes
    return counted_scores((answered & true).sum(0)[None], answered.sum(0)[None], true.sum(0)[None])[0]


def counted_scores(both: Array, answered: Array, true: Array) -> list[ClassScores]:
    """The scores of B tasks from numbers of rows (B, C) by class: answered rightly, answered so, truly so."""
    counts = (answered + true > 0).sum(1)
    recall = (both / np.maximum(true, 1)).sum(1) / counts
    precision = (both / np.maximum(answered, 1)).sum(1) / counts
    figures = (*accuracy_and_f1(both, answered, true), recall.tolist(), precision.tolist())
    return [ClassScores(*own) for own in zip(*figures, strict=True)]


def accuracy_and_f1(both: Array, answered: Array, true: Array) -> tuple[list[float], list[float]]:
    """The first two figures of :func:`counted_scores` alone; 0 for a task without rows."""
    either = answered + true
    f1 = (2 * both / np.maximum(either, 1)).sum(1) / np.maximum(np.count_nonzero(either, axis=1), 1)
    return (both.sum(1) / np.maximum(true.sum(1), 1)).tolist(), f1.tolist()


def value_scores(values: Array, truth: Array) -> ValueScores:
    """``values``, ``truth``: (n, n_targets), n >= 1."""
    return error_scores(values.astype(float) - truth, truth)


def error_scores(errors: Array, truth: Array) -> ValueScores:
    """The same from ``errors`` = values - truth, (n, n_targets): small ones of large values keep all their digits."""
    return ValueScores(float(np.mean(np.square(errors))), r_squared(_sums_of_squares(errors, truth)))


def r_squared(sums: Array) -> float | None:
    """Explained share of the variance, 1 - residual / total, mean over targets; below 0 the mean would do better.

    ``sums``: (2, n_targets), residual and total sums of squares. A target that does not vary is left out; None where
    none does.
    """
    residual, total = sums
    varies = total > 0
    return float(np.mean(1 - residual[varies] / total[varies])) if varies.any() else None


def calibration_error(probabilities: Array, truth: Array) -> float:
    """Expected calibration error of the most probable class, 15 bins of equal width (Guo et al. 2017, equation 3).

    ``probabilities``: (n, n_way), n >= 1. A few rows overstate it: even honest probabilities miss in a bin of three.
    """
    return _calibration(_gaps(probabilities, truth))


def roc_auc(scores: Array, truth: Array) -> float | None:
    """The share of (positive, negative) pairs in which the positive scores higher; a tie counts half (Mann-Whitney).

    ``scores``: (n,). ``truth``: (n,) of 0, 1 and NaN; rows with NaN lack a label and do not count. None where only one
    class has labels.
    """
    known = ~np.isnan(np.asarray(truth, float))
    scores, positive = scores[known], truth[known] == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def mean_interval(scores: Array | Sequence[float]) -> Estimate:
    """The mean over episodes and half the width of its 95% interval, 1.96 standard errors. Needs two scores or more."""
    if len(scores) < 2:
        raise ValueError("an interval needs two episodes or more")
    error = float(np.std(scores, ddof=1)) / float(np.sqrt(len(scores)))
    return Estimate(mean=float(np.mean(scores)), interval=_Z * error)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927): honest at n = 4 and at 100% alike."""
    p, z2 = correct / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return centre - half, centre + half


def by_task(scores: Array, tasks: Array | None) -> Array:
    """Scores (n, ...) of episodes as means (m, ...) over those of each task; ``tasks``: (n,), which one an episode is
    drawn from. Episodes drawn again and again from the same few tasks tell no more than these tasks do, so that only
    such means make an honest interval. None: every episode is a task of its own, and stays."""
    if tasks is None:
        return scores
    return np.stack([scores[tasks == task].mean(0) for task in np.unique(tasks)])


def summarise_classes(
    episodes: Sequence[tuple[Array, Array]], tasks: Array | None = None
) -> dict[str, Estimate]:  # fmt: skip
    """Figures over episodes of (probabilities (n, n_way), truth (n,)), by name; ``tasks`` as in :func:`by_task`.

    ``calibration_error`` is that of all episodes' rows together: one episode has too few rows for 15 bins.
    """
    scores = [class_scores(probabilities.argmax(1), truth) for probabilities, truth in episodes]
    figures = {
        name: mean_interval(by_task(np.array([getattr(s, name) for s in scores]), tasks))
        for name in ClassScores.__annotations__
    }
    gaps = by_task(np.stack([_gaps(probabilities, truth) for probabilities, truth in episodes]), tasks)
    return figures | {"calibration_error": _pooled(gaps, _calibration)}


def summarise_values(episodes: Sequence[tuple[Array, Array]], tasks: Array | None = None) -> dict[str, Estimate]:
    """Figures over episodes of (values, truth), both (n, n_targets), by name; ``tasks`` as in :func:`by_task`.

    ``r2`` is pooled: all residuals against all distances from their own episode's mean. A mean of episodes' R^2 would
    hang on the few whose truth hardly varies. It is missing where nothing varies, even without some one episode.
    """
    errors = np.array([value_scores(values, truth).mse for values, truth in episodes])
    figures = {"mse": mean_interval(by_task(errors, tasks))}
    sums = np.stack([_sums_of_squares(values.astype(float) - truth, truth) for values, truth in episodes])
    sums = by_task(sums, tasks)
    others = sums.sum(0) - sums
    if (others[:, 1] > 0).any(axis=1).all():
        figures["r2"] = _pooled(sums, lambda pooled: r_squared(pooled) or 0.0)
    return figures


def _pooled(parts: Array, figure: Callable[[Array], float]) -> Estimate:
    """A figure of sums over episodes; its interval by the jackknife: each episode left out in turn (Tukey 1958)."""
    n, total = len(parts), parts.sum(0)
    without = np.array([figure(total - part) for part in parts])
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    return Estimate(mean=figure(total), interval=float(_Z * error))


def _gaps(probabilities: Array, truth: Array) -> Array:
    """(16,): in each bin the sum of (correct - confidence), then the number of rows."""
    confidence = probabilities.max(1).astype(float)
    correct = probabilities.argmax(1) == truth
    edges = np.linspace(0, 1, _BINS + 1)[1:-1]
    gaps = np.bincount(np.digitize(confidence, edges, right=True), correct - confidence, minlength=_BINS)
    return np.append(gaps, len(truth))


def _calibration(gaps: Array) -> float:
    return float(np.abs(gaps[:-1]).sum() / gaps[-1])


def _sums_of_squares(errors: Array, truth: Array) -> Array:
    """(2, n_targets): of the errors, and of the distances from the mean, exactly 0 where the truth is constant."""
    truth = truth.astype(float)
    total = np.where(np.ptp(truth, axis=0) > 0, np.square(truth - truth.mean(0)).sum(0), 0.0)
    return np.stack([np.square(errors).sum(0), total])
