"""The ridge penalty where none was meta-learned: by exact leave-one-out, with a prior where the support is small."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.calibration import at_once, believed_classes, gains_and_scale, left_out_losses
from kshot.learners.closed_form import Problem
from kshot.learners.losses import NEVER

# Penalties in octaves of the mean squared norm of a row. For classes the prior is narrow: on text embeddings, small
# pictures and tables (BANKING77, CLINC150, digits, wine, breast cancer) no estimate from a few dozen rows beat an l2 of
# that norm, twice as much with one shot, and more with more classes.
_CLASSES_GRID, _CLASSES_PRIOR_STD = torch.arange(-10.0, 9.0), 1.0
_ONE_SHOT_OCTAVES, _USUAL_WAYS = 1.0, 5
_VALUES_GRID, _VALUES_PRIOR_MEAN, _VALUES_PRIOR_STD = torch.arange(-20.0, 5.0), -2.0, 3.0
_LEAST_ERROR = 1e-8  # of the targets' variance
_LEAST_KEPT = _LEAST_ROOT = 1e-9


def choose_l2(problem: Problem, packed: Packed, left_out: Tensor) -> Tensor:
    """The penalty (B,) of each task. ``left_out``: (B, N), the rows whose leave-one-out error may be believed.

    The posterior mean of log(l2) over a grid, not the best grid point: round-off never tips it over to another one.
    """
    norm = problem.a.square().sum((1, 2)) / problem.n.squeeze(1)
    norm = torch.where(norm > 0, norm, 1.0)
    if packed.task == "classification":
        grid = _CLASSES_GRID.to(norm)
        more_ways = (packed.ways.squeeze(1) / _USUAL_WAYS).log2().clamp(min=0)
        expected = torch.where(left_out.any(1), 0.0, _ONE_SHOT_OCTAVES) + more_ways
        evidence = _classes_evidence(problem, packed, left_out, norm, grid)
        prior = -0.5 * ((grid - expected.unsqueeze(1)) / _CLASSES_PRIOR_STD).square()
    else:
        grid = _VALUES_GRID.to(norm)
        evidence = _values_evidence(problem, packed, left_out, norm, grid)
        prior = -0.5 * ((grid - _VALUES_PRIOR_MEAN) / _VALUES_PRIOR_STD).square()
    octaves: Tensor = (evidence + prior).softmax(1) @ grid
    return norm * octaves.exp2()


def _classes_evidence(problem: Problem, packed: Packed, left_out: Tensor, norm: Tensor, grid: Tensor) -> Tensor:
    """Minus the cross-entropy of the left-out rows, (B, G)."""
    spectrum, width = _spectrum(problem), problem.a.shape[2]
    truth, labels = believed_classes(packed, left_out), problem.labels.mT.contiguous().unsqueeze(1)
    own = spectrum.sums(packed.targets.to(norm).mT)
    every = None if problem.even else spectrum.sums(packed.rows.to(norm).unsqueeze(1))
    evidence = []
    for fits in _leave_one_out_fits(spectrum, norm, grid):
        gains, scale = gains_and_scale(fits.summed(own), None if every is None else fits.summed(every), packed, width)
        factors = (scale.unsqueeze(2) * gains).transpose(0, 1).unsqueeze(3)
        logits = torch.addcmul(labels, fits.excess, fits.undone) * factors
        if packed.ragged_outputs:
            logits = logits + torch.where(packed.outputs, 0.0, NEVER).view(len(norm), 1, -1, 1)
        evidence.append(-left_out_losses(logits, truth))
    return torch.cat(evidence, 1)


def _values_evidence(problem: Problem, packed: Packed, left_out: Tensor, norm: Tensor, grid: Tensor) -> Tensor:
    """Gaussian log-likelihood of the left-out rows, (B, G), each target by its own variance."""
    believed = left_out.to(norm)
    n = believed.sum(1, keepdim=True)
    variance = problem.t.square().sum(1) / n.clamp(min=1)
    real = packed.outputs & (variance > 0)
    variance = torch.where(real, variance, 1.0).unsqueeze(1)
    evidence = []
    for fits in _leave_one_out_fits(_spectrum(problem), norm, grid):
        squares = (fits.excess * fits.undone).square() * believed.view(len(n), 1, 1, -1)
        mse = squares.sum(3) / n.clamp(min=1).unsqueeze(2)
        evidence.append(-0.5 * n * ((mse / variance + _LEAST_ERROR).log() * real.unsqueeze(1)).sum(2))
    return torch.cat(evidence, 1)


@dataclass(frozen=True)
class _Spectrum:
    """What all penalties share: p (B, K, N) with p' p = a a' and rows orthogonal, squares ``s`` (B, K) of their lengths
    and the targets ``t`` (B, C, N) along them, ``projected`` (B, C, K). ``weighted``: (B, 1, N), 1 / root of a row's
    weight. ``mean_share``: (B, 1, N), a row's share in the offset."""

    s: Tensor
    p: Tensor
    t: Tensor
    projected: Tensor
    weighted: Tensor
    mean_share: Tensor

    def sums(self, rows: Tensor) -> Tensor:
        """For ``rows`` (B, C or 1, N) what (B, C, K) of, times ``shrunk``, is the sum of the fits over them."""
        return torch.bmm(rows * self.weighted, self.p.mT) * self.projected


@dataclass(frozen=True)
class _Fits:
    """For G penalties: ``shrunk`` (B, G, K), 1 / (s + l2); ``excess`` (B, G, C, N), fit less target in weighted rows;
    ``undone`` (B, G, 1, N), times which it is that of the fit made without the row, in the row's own terms."""

    shrunk: Tensor
    excess: Tensor
    undone: Tensor

    def summed(self, sums: Tensor) -> Tensor:
        """What :meth:`_Spectrum.sums` stands for, (G, B, C)."""
        return torch.bmm(self.shrunk, sums.mT).transpose(0, 1)


def _spectrum(problem: Problem) -> _Spectrum:
    root, t = problem.root.unsqueeze(1), problem.t.mT.contiguous()
    s, vectors = torch.linalg.eigh(problem.gram)
    s = s.clamp(min=0)
    dual = problem.gram.shape[1] == problem.a.shape[1]
    p = (vectors * s.sqrt().unsqueeze(1) if dual else torch.bmm(problem.a, vectors)).mT
    weighted, mean_share = 1 / root.clamp(min=_LEAST_ROOT), root.square() / problem.n.unsqueeze(2)
    return _Spectrum(s, p, t, torch.bmm(t, p.mT), weighted, mean_share)


def _leave_one_out_fits(spectrum: _Spectrum, norm: Tensor, grid: Tensor) -> Iterator[_Fits]:
    """The fits of as many penalties of the grid as are best computed together. They mean nothing in padded rows."""
    square, projected = spectrum.p.square(), spectrum.projected.unsqueeze(1)
    for octaves in torch.split(grid, at_once(spectrum.t.numel())):
        shrunk = 1 / (spectrum.s.unsqueeze(1) + (norm.unsqueeze(1) * octaves.exp2()).unsqueeze(2))
        fit = torch.bmm((shrunk.unsqueeze(2) * projected).flatten(1, 2), spectrum.p)
        excess = fit.view(len(fit), len(octaves), *spectrum.t.shape[1:]) - spectrum.t.unsqueeze(1)
        kept = (1 - torch.bmm(shrunk, square) - spectrum.mean_share).clamp(min=_LEAST_KEPT)
        yield _Fits(shrunk, excess, (spectrum.weighted / kept).unsqueeze(2))
