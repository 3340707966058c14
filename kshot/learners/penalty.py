"""The ridge penalty where none was meta-learned: by exact leave-one-out, with a prior where the support is small."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.calibration import class_gains, usual_scale
from kshot.learners.closed_form import Problem, gram
from kshot.learners.losses import row_losses

# Penalties in octaves of the mean squared norm of a row. For classes the prior is narrow: on text embeddings, small
# pictures and tables (BANKING77, CLINC150, digits, wine, breast cancer) no estimate from a few dozen rows beat an l2 of
# that norm, twice as much with one shot, and more with more classes.
_CLASSES_GRID, _CLASSES_PRIOR_STD = torch.arange(-10.0, 9.0), 1.0
_ONE_SHOT_OCTAVES, _USUAL_WAYS = 1.0, 5
_VALUES_GRID, _VALUES_PRIOR_MEAN, _VALUES_PRIOR_STD = torch.arange(-20.0, 5.0), -2.0, 3.0
_LEAST_ERROR = 1e-8  # of the targets' variance


def choose_l2(problem: Problem, packed: Packed, left_out: Tensor) -> Tensor:
    """The penalty (B,) of each task. ``left_out``: (B, N), the rows whose leave-one-out error may be believed.

    The posterior mean of log(l2) over a grid, not the best grid point: round-off never tips it over to another one.
    """
    n = problem.root.square().sum(1)
    norm = problem.a.square().sum((1, 2)) / n
    norm = torch.where(norm > 0, norm, 1.0)
    believed = left_out.to(norm)
    if packed.task == "classification":
        grid = _CLASSES_GRID.to(norm)
        more_ways = (packed.outputs.sum(1) / _USUAL_WAYS).log2().clamp(min=0)
        expected = torch.where(believed.sum(1) > 0, 0.0, _ONE_SHOT_OCTAVES) + more_ways
        evidence = _classes_evidence(problem, packed, believed, norm, grid)
        prior = -0.5 * ((grid - expected[:, None]) / _CLASSES_PRIOR_STD).square()
    else:
        grid = _VALUES_GRID.to(norm)
        evidence = _values_evidence(problem, packed, believed, norm, grid)
        prior = -0.5 * ((grid - _VALUES_PRIOR_MEAN) / _VALUES_PRIOR_STD).square()
    octaves: Tensor = (evidence + prior).softmax(1) @ grid
    return norm * octaves.exp2()


def _classes_evidence(problem: Problem, packed: Packed, believed: Tensor, norm: Tensor, grid: Tensor) -> Tensor:
    """Minus the cross-entropy of the left-out rows, (B, G)."""
    evidence = []
    for fit, errors in _leave_one_out_fits(problem, packed, norm, grid):
        gains = class_gains(fit, packed)
        scale = usual_scale(fit * gains, packed, problem.a.shape[2])[:, None, None]
        logits = scale * gains * (packed.targets - problem.offset.unsqueeze(1) - errors)
        evidence.append(-(row_losses(packed.task, logits, packed.targets, packed.outputs) * believed).sum(1))
    return torch.stack(evidence, 1)


def _values_evidence(problem: Problem, packed: Packed, believed: Tensor, norm: Tensor, grid: Tensor) -> Tensor:
    """Gaussian log-likelihood of the left-out rows, (B, G), each target by its own variance."""
    n = believed.sum(1, keepdim=True)
    variance = problem.t.square().sum(1) / n.clamp(min=1)
    real = packed.outputs & (variance > 0)
    variance = torch.where(real, variance, 1.0)
    evidence = []
    for _, errors in _leave_one_out_fits(problem, packed, norm, grid):
        mse = (errors.square() * believed.unsqueeze(2)).sum(1) / n.clamp(min=1)
        evidence.append(-0.5 * n.squeeze(1) * ((mse / variance + _LEAST_ERROR).log() * real).sum(1))
    return torch.stack(evidence, 1)


def _leave_one_out_fits(
    problem: Problem, packed: Packed, norm: Tensor, grid: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each penalty of the grid the fit less the offset, and the left-out errors, both (B, N, C).

    One eigendecomposition serves all of them.
    """
    a, t, root = problem.a, problem.t, problem.root
    matrix = gram(problem)
    s, vectors = torch.linalg.eigh(matrix)
    s = s.clamp(min=0)
    p = vectors * s.sqrt().unsqueeze(1) if matrix.shape[1] == a.shape[1] else a @ vectors  # p p' = a a'
    projected = p.transpose(1, 2) @ t
    mean_share = root.square() / root.square().sum(1, keepdim=True)
    safe_root = root.clamp(min=1e-9).unsqueeze(2)
    for octave in grid:
        shrunk = 1 / (s + (norm * 2**octave)[:, None])
        fit = p @ (shrunk.unsqueeze(2) * projected)
        kept = 1 - (p.square() @ shrunk.unsqueeze(2)).squeeze(2) - mean_share
        errors = (t - fit) / kept.clamp(min=1e-9).unsqueeze(2) / safe_root
        yield fit / safe_root, errors * packed.rows.unsqueeze(2)
