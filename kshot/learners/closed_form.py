"""Ridge regression in closed form, batched, with its exact leave-one-out (double precision inside, differentiable).

The problem of each task: minimise sum_i w_i ||y_i - y0 - (x_i - x0) W||^2 + l2 ||W||^2, the offset unpenalised, so that
x0 and y0 are weighted means. Padded rows have weight 0 and change nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.calibration import told_apart
from kshot.learners.losses import balanced_weights

_LEAST_KEPT = 1e-9
_FEW_ROWS = 32  # up to which one inverse of all is found sooner than the rows of each class


@dataclass(frozen=True)
class Problem:
    """B centred problems, rows multiplied by the root of their weight.

    ``a``: features (B, N, d). ``gram``: the smaller of a a' (B, N, N) and a' a (B, d, d), all that solving works with.
    ``t``: targets (B, N, C). ``labels``: the same before they were multiplied. ``root``: (B, N), weights' roots; the
    weights sum to the number of real rows, ``n`` (B, 1). ``even``: they are all 1. ``centre`` and ``spread``: (B, d),
    ``offset``: (B, C); features are (x - centre) / spread. ``offset_share``: (B,), 1 / n where the offset was fitted, 0
    where there is none.
    """

    a: Tensor
    gram: Tensor
    t: Tensor
    labels: Tensor
    root: Tensor
    n: Tensor
    even: bool
    centre: Tensor
    spread: Tensor
    offset: Tensor
    offset_share: Tensor


@dataclass(frozen=True)
class Solution:
    """What solving a ``problem`` for penalties ``l2`` (B,) gives. What not everyone needs is made when it is asked for.

    ``weight``: (B, C, d). ``answers``: (B, N, C), a W'. ``cholesky``: of the penalised Gram matrix.
    """

    problem: Problem
    l2: Tensor
    weight: Tensor
    answers: Tensor
    cholesky: Tensor

    @cached_property
    def fit(self) -> Tensor:
        """(B, N, C), the answers to the support rows themselves, less the offset; 0 in padded rows."""
        return _by_row(self.problem, self.answers)

    @cached_property
    def missed(self) -> Tensor:
        """(B, N, C), what the fit leaves of ``t``."""
        return self.problem.t - self.answers

    @cached_property
    def kept(self) -> Tensor:
        """(B, N, 1), 1 - h_ii: what share of a weighted row's target its fit does not take from that target itself."""
        a, l2, share = self.problem.a, self.l2.unsqueeze(1), self.problem.offset_share.unsqueeze(1)
        if _is_dual(self.problem):  # H = K (K + l2)^-1 = 1 - l2 (K + l2)^-1, K = a a'
            kept = l2 * torch.cholesky_inverse(self.cholesky).diagonal(dim1=1, dim2=2)
        else:
            kept = 1 - torch.linalg.solve_triangular(self.cholesky, a.mT, upper=False).square().sum(1)
        return (kept - self.problem.root.square() * share).clamp(min=_LEAST_KEPT).unsqueeze(2)

    @cached_property
    def left_out(self) -> Tensor:
        """(B, N, C), target minus the fit made without that row, the others' weights unchanged: e_i / (1 - h_ii)."""
        return _by_row(self.problem, self.missed / self.kept)

    @property
    def noise(self) -> Tensor:
        """(B, C), variance of a target about the truth."""
        return (self.missed.square() / self.kept).sum(1) / self.problem.n


def centred(packed: Packed, evened: bool) -> Problem:
    """The problem of a packed support: classes weigh the same whatever their size.

    ``evened``: plain numbers on unlike scales become comparable. Each feature is divided by sqrt(v + floor), v its
    variance over the support, floor = 4 median (1 + (20 median / mean)^2). Where the mean is far above the median this
    is little more than standardising; embeddings, whose features are alike, all get the same divisor. All that follows
    is relative, hence rows that are told apart by no more than round-off count as equal.
    """
    x, y = packed.x.double(), packed.targets.double()
    n = packed.rows.sum(1, keepdim=True).double()
    if packed.even:
        root = torch.ones_like(y[:, :, 0])
        centre, offset = x.mean(1), y.mean(1)
        a, labels = x - centre.unsqueeze(1), y - offset.unsqueeze(1)
        t = labels
    else:
        share = balanced_weights(packed, torch.float64)
        root = (share * n).sqrt()
        centre, offset = (torch.bmm(share.unsqueeze(1), own).squeeze(1) for own in (x, y))
        labels = y - offset.unsqueeze(1)
        a, t = ((root.unsqueeze(2) * own) for own in (x - centre.unsqueeze(1), labels))
    spread = torch.ones_like(centre)
    if evened:
        variance = a.square().sum(1) / n
        told = told_apart(variance, variance + centre.square()).unsqueeze(1)
        spread = even_spread(variance * told)
        a = a * (told / spread).unsqueeze(1)
    share_of_offset = n.reciprocal().squeeze(1)
    return Problem(a, _gram(a), t, labels, root, n, packed.even, centre, spread, offset, share_of_offset)


def about_prior(packed: Packed, mean: Tensor) -> Problem:
    """The problem without an offset of what a prior ``mean`` (C, d) of W leaves unexplained, features as they are."""
    x, root = packed.x.double(), packed.rows.double()
    a = root.unsqueeze(2) * x
    labels = packed.targets.double() - x @ mean.double().T
    t, n, none = root.unsqueeze(2) * labels, root.sum(1, keepdim=True), root.new_zeros(len(x))
    zero, one = torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0])
    return Problem(a, _gram(a), t, labels, root, n, packed.even, zero, one, torch.zeros_like(t[:, 0]), none)


def even_spread(variance: Tensor) -> Tensor:
    """What features (B, d) of this variance are divided by so that they are comparable; see :func:`centred`."""
    moving = variance > 1e-12 * variance.amax(1, keepdim=True)  # features that are constant have no say
    known = variance if bool(moving.all()) else variance.masked_fill(~moving, torch.nan)
    median, mean = known.nanmedian(1, keepdim=True).values, known.nansum(1, keepdim=True) / moving.sum(1, keepdim=True)
    floor = 4 * median * (1 + (20 * median / mean).square())
    return (variance + floor.nan_to_num(1.0)).sqrt()


def solve(problem: Problem, l2: Tensor) -> Solution:
    """W for penalties ``l2`` (B,)."""
    a, t, cholesky = problem.a, problem.t, _cholesky(problem, l2)
    if _is_dual(problem):
        alpha: Tensor = torch.cholesky_solve(t, cholesky)
        answers = torch.addcmul(t, l2.view(-1, 1, 1), alpha, value=-1)
        return Solution(problem, l2, torch.bmm(alpha.mT, a), answers, cholesky)
    weight: Tensor = torch.cholesky_solve(torch.bmm(a.mT, t), cholesky)
    return Solution(problem, l2, weight.mT, torch.bmm(a, weight), cholesky)


def spread_of_fit(problem: Problem, solution: Solution, l2: Tensor) -> tuple[Tensor, Tensor]:
    """How sure a fit is: the variance at features z is noise * (offset_share + isotropic ||z||^2 -+ ||factor z||^2).

    ``factor``: (B, r, d). Minus where ``isotropic`` (B,) is positive.
    """
    a = problem.a
    if _is_dual(problem):
        factor = torch.linalg.solve_triangular(solution.cholesky, a, upper=False)
        return factor / l2.sqrt().view(-1, 1, 1), 1 / l2
    identity = torch.eye(a.shape[2], dtype=a.dtype, device=a.device).expand(len(a), -1, -1)
    return torch.linalg.solve_triangular(solution.cholesky, identity, upper=False), torch.zeros_like(l2)


def predictive_variance(z: Tensor, factor: Tensor, isotropic: Tensor, offset_share: Tensor, noise: Tensor) -> Tensor:
    """The variance of a target at features ``z`` (B, Q, d): noise * (1 + offset_share + z' (A'A + l2)^-1 z), (B, Q, C).

    Bishop, PRML, eq. 3.59 with precision 1 / noise of the targets and l2 / noise of the weights; ``offset_share`` (B,)
    is 1/n for an offset of flat prior. ``factor`` and ``isotropic`` as :func:`spread_of_fit` says. ``noise``: (B, 1, C)
    or (C).
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
    residual = _residual_operator(problem, l2 * (problem.n / (problem.n - 1)).squeeze(1))
    missed = torch.bmm(residual, problem.t)
    if problem.even and targets.shape[1] > _FEW_ROWS:
        return _changed_by_block(residual, missed, targets)
    targets = targets.to(residual)
    same = torch.bmm(targets, targets.mT)
    size = same.sum(2)
    size = torch.where(size > 0, size, 2.0)  # in padded rows any number does, but for the one that divides 0 by 0
    return _by_row(problem, _changed(residual * same, missed, size))


def _changed(residual: Tensor, missed: Tensor, size: Tensor) -> Tensor:
    """The errors of :func:`left_out_by_class`: ``residual`` (..., n, n) within classes, ``missed`` (..., n, C) its e,
    ``size`` (..., n) of each row's class."""
    definite = residual.neg()
    definite.diagonal(dim1=-2, dim2=-1).add_(size)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(definite).L)  # k - R_SS: no eigenvalue of R is above 1
    changed: Tensor = inverse @ missed / (size * inverse.diagonal(dim1=-2, dim2=-1) - 1).unsqueeze(-1)
    return changed


def _changed_by_block(residual: Tensor, missed: Tensor, targets: Tensor) -> Tensor:
    """The same where all classes have as many rows: a small inverse for each class instead of a large one for all."""
    tasks, n, ways = targets.shape
    order = targets.argmax(2).argsort(dim=1, stable=True).view(tasks, ways, n // ways)
    task = torch.arange(tasks, device=order.device).view(-1, 1, 1)
    block = residual[task.unsqueeze(3), order.unsqueeze(3), order.unsqueeze(2)]
    errors = torch.empty_like(missed)
    errors[task, order] = _changed(block, missed[task, order], missed.new_full((), n // ways))
    return errors


def _residual_operator(problem: Problem, l2: Tensor) -> Tensor:
    """1 - H (B, N, N), H the hat matrix of the weighted rows, the offset's share in it."""
    cholesky = _cholesky(problem, l2)
    if _is_dual(problem):
        features = l2.view(-1, 1, 1) * torch.cholesky_inverse(cholesky)
    else:
        z = torch.linalg.solve_triangular(cholesky, problem.a.transpose(1, 2), upper=False)
        features = torch.eye(z.shape[2], dtype=z.dtype, device=z.device) - torch.bmm(z.transpose(1, 2), z)
    if problem.even:
        return features - (1 / problem.n).unsqueeze(2)
    offset: Tensor = problem.root.unsqueeze(2) * problem.root.unsqueeze(1) / problem.n.unsqueeze(2)
    return features - offset


def _by_row(problem: Problem, answers: Tensor) -> Tensor:
    """Answers (B, N, C) to weighted rows as answers to the rows themselves; 0 in padded rows if they were 0."""
    return answers if problem.even else answers / problem.root.clamp(min=_LEAST_KEPT).unsqueeze(2)


def fits_in_dual(n: int, d: int) -> bool:
    """Whether n rows of width d are solved through their n x n Gram matrix, the smaller one."""
    return n <= d


def _is_dual(problem: Problem) -> bool:
    return fits_in_dual(problem.a.shape[1], problem.a.shape[2])


def _gram(a: Tensor) -> Tensor:
    return torch.bmm(a, a.mT) if fits_in_dual(a.shape[1], a.shape[2]) else torch.bmm(a.mT, a)


def _cholesky(problem: Problem, l2: Tensor) -> Tensor:
    """Of the penalised Gram matrix; NaN where it has none, so that it is refused with the other non-finite states."""
    penalised = problem.gram.clone()
    penalised.diagonal(dim1=1, dim2=2).add_(l2.unsqueeze(1))
    cholesky: Tensor
    cholesky, failed = torch.linalg.cholesky_ex(penalised)
    return cholesky.masked_fill((failed > 0).view(-1, 1, 1), torch.nan) if bool(failed.any()) else cholesky
