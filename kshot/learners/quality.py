"""How good an adapted model is, from answers to its own support rows, each given without that row."""

from math import sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.tasks import Quality
from kshot.contracts.wire import Array
from kshot.metrics import accuracy_and_f1, error_scores, wilson_interval

_Z = 1.96
_WIDEST_ACCURACY_INTERVAL = 0.2
_WIDEST_MSE_INTERVAL = 1.0  # of the estimate itself
_FEWEST_ROWS_FOR_MSE = 10


def accuracy_quality(logits: Tensor, targets: Tensor, left_out: Tensor, folds: int | None = None) -> Quality:
    """The :func:`accuracy_qualities` of one task of ``logits`` (n, n_way), classes ``targets`` (n,) and ``left_out``
    (n,)."""
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[1])
    real = one_hot.new_ones(1, logits.shape[1], dtype=torch.bool)
    return accuracy_qualities(logits[None], one_hot[None], left_out[None], real, folds)[0]


def accuracy_qualities(
    logits: Tensor, targets: Tensor, left_out: Tensor, classes: Tensor, folds: int | None = None
) -> list[Quality]:
    """Accuracy over the rows that can be left out: each left out alone, or in ``folds`` parts where that is given.

    ``logits``: (B, N, C), each row's answer from a support without it. ``targets``: (B, N, C), one-hot. ``left_out``:
    (B, N), False in padding and for the only example of a class: without it there is no such class to answer.
    ``classes``: (B, C), True where real. Reliable where every row was left out and the 95% Wilson interval is at most
    0.2 wide; without any such row there is no figure at all.
    """
    answers = torch.where(classes.unsqueeze(1), logits, -torch.inf).argmax(2)
    numbers = torch.stack([answers, targets.argmax(2), left_out]).cpu().numpy()  # one journey from another device
    counts = _counts(numbers, logits.shape[2])
    figures = zip(*accuracy_and_f1(*counts), counts[2].sum(1).tolist(), targets.sum((1, 2)).tolist(), strict=True)
    return [_accuracy(accuracy, f1, n, n == rows, folds) if n else _nothing(folds) for accuracy, f1, n, rows in figures]


def _counts(numbers: Array, n_classes: int) -> tuple[Array, Array, Array]:
    """By class, (B, C) each: how many rows were answered rightly, were answered so, are truly so.

    ``numbers``: (3, B, N), each row's answer, its truth, and whether it counts.
    """
    places = numbers[:2] + n_classes * np.arange(numbers.shape[1])[:, None]
    counted = numbers[2] > 0
    answers, truth = places[0][counted], places[1][counted]
    shape = (numbers.shape[1], n_classes)
    right = truth[answers == truth]
    both, answered, true = (np.bincount(rows, minlength=shape[0] * shape[1]) for rows in (right, answers, truth))
    return both.reshape(shape), answered.reshape(shape), true.reshape(shape)


def _accuracy(accuracy: float, macro_f1: float, n: int, all_left_out: bool, folds: int | None) -> Quality:
    low, high = wilson_interval(round(accuracy * n), n)
    return Quality(
        method=_method(folds),
        folds=folds,
        accuracy=accuracy,
        macro_f1=macro_f1,
        n=n,
        reliable=all_left_out and high - low <= _WIDEST_ACCURACY_INTERVAL,
    )


def mse_quality(residuals: Tensor, folds: int | None = None, *, targets: Tensor | None = None) -> Quality:
    """Mean squared error, and R^2 where the ``targets`` (n, n_targets) are given.

    ``residuals``: (n, n_targets), each row's error, predicted from a support without it. ``folds`` as in
    :func:`accuracy_quality`. Reliable from ten rows on where the 95% interval of the mean is no wider than the mean.
    One row gives no figure, nor do errors that are not finite: whether the model is, is not for its quality to say.
    """
    n, errors = len(residuals), residuals.double().cpu()
    if n < 2 or not bool(errors.isfinite().all()):
        return _nothing(folds)
    truth = torch.zeros_like(errors) if targets is None else targets.double().cpu()
    scores = error_scores(errors.numpy(), truth.numpy())
    error = float(errors.square().mean(1).std()) / sqrt(n)
    reliable = n >= _FEWEST_ROWS_FOR_MSE and 2 * _Z * error <= _WIDEST_MSE_INTERVAL * scores.mse
    return Quality(method=_method(folds), folds=folds, mse=scores.mse, r2=scores.r2, n=n, reliable=reliable)


def _method(folds: int | None) -> Literal["leave_one_out", "k_fold"]:
    return "leave_one_out" if folds is None else "k_fold"


def _nothing(folds: int | None) -> Quality:
    return Quality(method=_method(folds), folds=folds, n=0, reliable=False)


def can_leave_out(targets: Tensor, rows: Tensor) -> Tensor:
    """(B, N): whether a row's class keeps an example without it. ``targets``: one-hot (B, N, C). ``rows``: (B, N)."""
    size = (targets @ targets.sum(1).unsqueeze(-1)).squeeze(-1)
    return torch.logical_and(rows, size > 1.5)
