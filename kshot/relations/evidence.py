"""What a support tells about the embeddings it was given: votes that need no query labels and no training.

All take the embeddings x (n, d) of one support and look at the support's own rows alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.learners.base import Support
from kshot.learners.batching import Packed, pack
from kshot.learners.calibration import class_gains, fit_scale, usual_scale
from kshot.learners.closed_form import Problem, Solution, centred, left_out_by_class, solve
from kshot.learners.losses import row_losses
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import can_leave_out

_MOST_ROWS_REBALANCED = 512  # as in learners/ridge.py
_LEAST_VARIANCE = 1e-12
_LOG_TWO_PI = math.log(2 * math.pi)
_LOGME_STEPS = 20
_MOST_PRECISION = 1e6  # of a noise-free fit, whose evidence has a limit but whose precision has none


@dataclass(frozen=True)
class LeftOut:
    """Answers to ``n`` rows, each from the others. ``score``: accuracy, or mean squared error.

    ``rows``: (n,), log-likelihood of each answer in nats, mean over targets.
    """

    score: float
    rows: Tensor
    n: int

    @property
    def log_likelihood(self) -> float:
        """Nats per row."""
        return float(self.rows.mean())


def ridge_left_out(support: Support, x: Tensor) -> LeftOut | None:
    """Exact leave-one-out of the closed-form ridge head with the penalty it chooses itself; None where no row may go.

    For classes the log-likelihood is that of softmax(scale * scores), the scale fitted with a prior; for numbers that
    of a normal distribution with the left-out errors' own variance.
    """
    packed = pack([support], [x])
    believed = can_leave_out(packed.targets, packed.rows) if support.task == "classification" else packed.rows
    n = int(believed.sum())
    if n == 0 or len(x) == 1:
        return None
    problem = centred(packed, evened=True)
    l2 = choose_l2(problem, packed, believed)
    solution = solve(problem, l2)
    if support.task == "regression":
        return _numbers_left_out(solution.left_out[0])
    return _classes_left_out(packed, problem, solution, l2, believed)


def _numbers_left_out(errors: Tensor) -> LeftOut:
    variance = errors.square().mean(0).clamp(min=_LEAST_VARIANCE)
    rows = -0.5 * (errors.square() / variance + variance.log() + _LOG_TWO_PI)
    return LeftOut(float(errors.square().mean()), rows.mean(1), len(errors))


def _classes_left_out(packed: Packed, problem: Problem, solution: Solution, l2: Tensor, believed: Tensor) -> LeftOut:
    gains = class_gains(solution.fit, packed)
    errors = solution.left_out
    if packed.x.shape[1] <= _MOST_ROWS_REBALANCED:
        errors = left_out_by_class(problem, packed.targets.double(), l2)
    scores = gains * (packed.targets - problem.offset.unsqueeze(1) - errors)
    scale = fit_scale(scores, packed, believed, usual_scale(solution.fit * gains, packed, packed.x.shape[2]))
    losses = row_losses("classification", scale[:, None, None] * scores, packed.targets.double(), packed.outputs)
    right = (scores.argmax(2) == packed.targets.argmax(2))[believed]
    return LeftOut(float(right.double().mean()), -losses[believed], int(believed.sum()))


def knn_left_out(support: Support, x: Tensor, k: int = 1) -> float | None:
    """Leave-one-out of nearest neighbours: accuracy, or mean squared error of the mean of the ``k`` nearest rows.

    Among classes the one nearest row decides, as long as any row is the only one of its class; only rows with a
    companion count. None where there is none.
    """
    if len(x) < 2:
        return None
    distances = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    if support.task == "regression":
        nearest = distances.topk(min(k, len(x) - 1), largest=False).indices
        return float((support.targets[nearest].mean(1) - support.targets).square().mean())
    counted = torch.bincount(support.targets)[support.targets] > 1
    if not bool(counted.any()):
        return None
    right = support.targets[distances.argmin(1)] == support.targets
    return float(right[counted].double().mean())


def logme(support: Support, x: Tensor) -> float:
    """Log maximum evidence per row, averaged over outputs: You et al., ICML 2021, algorithm 1 (fixed point on the SVD).

    The marginal likelihood of a Bayesian linear model of the one-hot (or real) targets, its prior precision alpha and
    noise precision beta set to their best.
    """
    y = torch.nn.functional.one_hot(support.targets, support.n_way).double() if support.n_way else support.targets
    y = y.double()
    if support.task == "regression":
        y = (y - y.mean(0)) / y.std(0, correction=0).clamp(min=_LEAST_VARIANCE)
    u, s, _ = torch.linalg.svd(x.double(), full_matrices=False)
    return float(_evidence(u, s.square(), y, x.shape[1]).mean()) / len(x)


def _evidence(u: Tensor, power: Tensor, y: Tensor, width: int) -> Tensor:
    """(C,), for left singular vectors (n, r), squared singular values (r,) and targets (n, C)."""
    n, power = len(y), power.unsqueeze(1)
    z2 = (u.T @ y).square()
    outside = (y.square().sum(0) - z2.sum(0)).clamp(min=0)
    alpha, beta = torch.ones_like(outside), torch.ones_like(outside)
    for _ in range(_LOGME_STEPS):
        shrunk = alpha + beta * power
        gamma = (beta * power / shrunk).sum(0)
        m2 = (beta.square() * power * z2 / shrunk.square()).sum(0)
        residual = outside + (z2 * (alpha / shrunk).square()).sum(0)
        alpha = gamma / m2.clamp(min=_LEAST_VARIANCE)
        beta = ((n - gamma) / residual.clamp(min=_LEAST_VARIANCE)).clamp(max=_MOST_PRECISION)
    shrunk = alpha + beta * power
    m2 = (beta.square() * power * z2 / shrunk.square()).sum(0)
    residual = outside + (z2 * (alpha / shrunk).square()).sum(0)
    determinant = shrunk.log().sum(0) + (width - len(power)) * alpha.log()
    data = n * beta.log() - beta * residual - n * _LOG_TWO_PI
    return 0.5 * (data + width * alpha.log() - alpha * m2 - determinant)
