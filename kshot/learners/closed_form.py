"""Ridge regression in closed form, batched, with its exact leave-one-out (double precision inside, differentiable).

The problem of each task: minimise sum_i w_i ||y_i - y0 - (x_i - x0) W||^2 + l2 ||W||^2, the offset unpenalised, so that
x0 and y0 are weighted means. Padded rows have weight 0 and change nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.calibration import told_apart
from kshot.learners.losses import balanced_weights

_LEAST_KEPT = 1e-9


@dataclass(frozen=True)
class Problem:
    """B centred problems, rows multiplied by the root of their weight.

    ``a``: features (B, N, d). ``t``: targets (B, N, C). ``root``: (B, N), weights' roots; the weights sum to the number
    of real rows. ``centre`` and ``spread``: (B, d), ``offset``: (B, C); features are (x - centre) / spread.
    ``offset_share``: (B,), 1 / n where the offset was fitted, 0 where there is none.
    """

    a: Tensor
    t: Tensor
    root: Tensor
    centre: Tensor
    spread: Tensor
    offset: Tensor
    offset_share: Tensor


@dataclass(frozen=True)
class Solution:
    """What solving gives, per task.

    ``weight``: (B, C, d). ``left_out``: (B, N, C), target minus the fit made without that row, the other rows' weights
    unchanged. ``noise``: (B, C), variance of a target about the truth.
    The variance of the fit at features z is noise * (offset_share + isotropic ||z||^2 -+ ||factor z||^2), minus where
    ``isotropic`` (B,) is positive. ``factor``: (B, r, d).
    """

    weight: Tensor
    left_out: Tensor
    noise: Tensor
    factor: Tensor
    isotropic: Tensor


def centred(packed: Packed, evened: bool) -> Problem:
    """The problem of a packed support: classes weigh the same whatever their size.

    ``evened``: plain numbers on unlike scales become comparable. Each feature is divided by sqrt(v + floor), v its
    variance over the support, floor = 4 median (1 + (20 median / mean)^2). Where the mean is far above the median this
    is little more than standardising; embeddings, whose features are alike, all get the same divisor. All that follows
    is relative, hence rows that are told apart by no more than round-off count as equal.
    """
    x, y = packed.x.double(), packed.targets.double()
    n = packed.rows.sum(1, keepdim=True)
    w = balanced_weights(packed, torch.float64) * n
    centre = (w.unsqueeze(1) @ x).squeeze(1) / n
    offset = (w.unsqueeze(1) @ y).squeeze(1) / n
    root = w.sqrt()
    a, t = root.unsqueeze(2) * (x - centre.unsqueeze(1)), root.unsqueeze(2) * (y - offset.unsqueeze(1))
    spread = torch.ones_like(centre)
    if evened:
        size = (w.unsqueeze(1) @ x.square()).squeeze(1) / n
        a = a * told_apart(a.square().sum(1) / n, size)[:, None, None]
        spread = _spread(a, n)
    return Problem(a / spread.unsqueeze(1), t, root, centre, spread, offset, 1 / n.squeeze(1).double())


def about_prior(packed: Packed, mean: Tensor) -> Problem:
    """The problem without an offset of what a prior ``mean`` (C, d) of W leaves unexplained, features as they are."""
    x, root = packed.x.double(), packed.rows.double()
    a = root.unsqueeze(2) * x
    t = root.unsqueeze(2) * (packed.targets.double() - x @ mean.double().T)
    none = root.new_zeros(len(x))
    return Problem(a, t, root, torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0]), torch.zeros_like(t[:, 0]), none)


def _spread(a: Tensor, n: Tensor) -> Tensor:
    variance: Tensor = a.square().sum(1) / n
    moving = variance > 1e-12 * variance.amax(1, keepdim=True)  # features that are constant have no say
    known = variance.masked_fill(~moving, torch.nan)
    median, mean = known.nanmedian(1, keepdim=True).values, known.nanmean(1, keepdim=True)
    floor = 4 * median * (1 + (20 * median / mean).square())
    return (variance + floor.nan_to_num(1.0)).sqrt()


def weights(problem: Problem, l2: Tensor) -> Tensor:
    """W of each task as (B, C, d), for penalties ``l2`` (B,): the part that meta-training differentiates."""
    return _weight(problem, _cholesky(problem, l2))


def solve(problem: Problem, l2: Tensor) -> Solution:
    """W, its exact leave-one-out errors e_i / (1 - h_ii), and what a predictive variance needs."""
    a, root = problem.a, problem.root
    cholesky = _cholesky(problem, l2)
    weight = _weight(problem, cholesky)
    errors = problem.t - a @ weight.transpose(1, 2)
    n = root.square().sum(1, keepdim=True)
    if _is_dual(problem):
        # H = K (K + l2)^-1 = 1 - l2 (K + l2)^-1, K = a a'
        kept = l2[:, None] * torch.cholesky_inverse(cholesky).diagonal(dim1=1, dim2=2)
        factor = torch.linalg.solve_triangular(cholesky, a, upper=False) / l2.sqrt()[:, None, None]
        isotropic = 1 / l2
    else:
        kept = 1 - torch.linalg.solve_triangular(cholesky, a.transpose(1, 2), upper=False).square().sum(1)
        identity = torch.eye(a.shape[2], dtype=a.dtype, device=a.device).expand(len(a), -1, -1)
        factor = torch.linalg.solve_triangular(cholesky, identity, upper=False)
        isotropic = torch.zeros_like(l2)
    kept = (kept - root.square() * problem.offset_share[:, None]).clamp(min=_LEAST_KEPT).unsqueeze(2)
    left_out = errors / kept / root.clamp(min=_LEAST_KEPT).unsqueeze(2)
    noise = (errors.square() / kept).sum(1) / n
    return Solution(weight, left_out, noise, factor, isotropic)


def predictive_variance(z: Tensor, factor: Tensor, isotropic: Tensor, offset_share: Tensor, noise: Tensor) -> Tensor:
    """The variance of a target at features ``z`` (B, Q, d): noise * (1 + offset_share + z' (A'A + l2)^-1 z), (B, Q, C).

    Bishop, PRML, eq. 3.59 with precision 1 / noise of the targets and l2 / noise of the weights; ``offset_share`` (B,)
    is 1/n for an offset of flat prior. ``factor`` and ``isotropic`` as in :class:`Solution`. ``noise``: (B, 1, C) or
    (C).
    """
    explained = (z @ factor.transpose(1, 2)).square().sum(2)
    outside = isotropic[:, None]
    doubt = torch.where(outside > 0, outside * z.square().sum(2) - explained, explained)
    variance: Tensor = (1 + offset_share[:, None] + doubt.clamp(min=0)).unsqueeze(2) * noise
    return variance


def left_out_by_class(problem: Problem, targets: Tensor, l2: Tensor) -> Tensor:
    """Targets minus the fit made without each row, (B, N, C), the other rows of its class weighing more instead.

    So it is what adapting again without that row gives, for penalties ``l2`` (B,) and one-hot ``targets`` (B, N, C).
    In weighted rows, with R = 1 - H the residual operator at l2 n / (n - 1), e = R t, and S the k rows of i's class:
    a weight k / (k - 1) times as large for the others of S and none for i changes e as v does that solves
    (R_SS - k (1 - e_i e_i')) v = e_S, whose i-th row is the error at i. One inverse for each class serves all its rows
    (Sherman-Morrison). Costs n^3, so it is for small supports. A row that is its class's only one has no such answer.
    """
    n = problem.root.square().sum(1)
    residual = _residual_operator(problem, l2 * n / (n - 1))
    same = targets @ targets.transpose(1, 2)
    size = same.sum(2)
    size = torch.where(size > 0, size, 2.0)  # in padded rows any number does, but for the one that divides 0 by 0
    inverse = torch.linalg.inv(residual * same - torch.diag_embed(size))
    changed = inverse @ (residual @ problem.t)
    errors: Tensor = changed / (1 + size * inverse.diagonal(dim1=1, dim2=2)).unsqueeze(2)
    return errors / problem.root.clamp(min=_LEAST_KEPT).unsqueeze(2)


def _residual_operator(problem: Problem, l2: Tensor) -> Tensor:
    """1 - H (B, N, N), H the hat matrix of the weighted rows, the offset's share in it."""
    cholesky, n = _cholesky(problem, l2), problem.root.square().sum(1)
    if _is_dual(problem):
        features = l2[:, None, None] * torch.cholesky_inverse(cholesky)
    else:
        z = torch.linalg.solve_triangular(cholesky, problem.a.transpose(1, 2), upper=False)
        features = torch.eye(z.shape[2], dtype=z.dtype, device=z.device) - z.transpose(1, 2) @ z
    offset: Tensor = problem.root.unsqueeze(2) * problem.root.unsqueeze(1) / n[:, None, None]
    return features - offset


def fitted(problem: Problem, weight: Tensor) -> Tensor:
    """The answers (B, N, C) to the support rows themselves, less the offset; 0 in padded rows."""
    return problem.a @ weight.transpose(1, 2) / problem.root.clamp(min=_LEAST_KEPT).unsqueeze(2)


def fits_in_dual(n: int, d: int) -> bool:
    """Whether n rows of width d are solved through their n x n Gram matrix, the smaller one."""
    return n <= d


def _is_dual(problem: Problem) -> bool:
    return fits_in_dual(problem.a.shape[1], problem.a.shape[2])


def gram(problem: Problem) -> Tensor:
    """The smaller of a a' (B, N, N) and a' a (B, d, d)."""
    a = problem.a
    return a @ a.transpose(1, 2) if _is_dual(problem) else a.transpose(1, 2) @ a


def _cholesky(problem: Problem, l2: Tensor) -> Tensor:
    matrix = gram(problem)
    penalty = torch.diag_embed(l2[:, None].expand(-1, matrix.shape[1]))
    cholesky: Tensor
    cholesky, failed = torch.linalg.cholesky_ex(matrix + penalty)
    return cholesky.masked_fill((failed > 0)[:, None, None], torch.nan)  # refused with the other non-finite states


def _weight(problem: Problem, cholesky: Tensor) -> Tensor:
    a, t = problem.a, problem.t
    if _is_dual(problem):
        alpha: Tensor = torch.cholesky_solve(t, cholesky)
        return alpha.transpose(1, 2) @ a
    weight: Tensor = torch.cholesky_solve(a.transpose(1, 2) @ t, cholesky)
    return weight.transpose(1, 2)
