"""The ridge penalty where none was meta-learned: by exact leave-one-out, with a prior where the support is small."""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.calibration import at_once, class_gains, usual_scale
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
    each = _for_each_penalty(packed)
    labels = each.targets - problem.offset[:, None, None]
    evidence = []
    for fit, errors in _leave_one_out_fits(problem, norm, grid):
        gains = class_gains(fit, each)
        scale = usual_scale(fit * gains, each, problem.a.shape[2])[:, :, None, None]
        logits = torch.where(each.outputs.unsqueeze(2), scale * gains * (labels - errors), NEVER)
        logits = logits - logits.amax(3, keepdim=True)
        losses = logits.exp().sum(3).log() - (logits * each.targets).sum(3)
        evidence.append(-(losses * believed.unsqueeze(1)).sum(2))
    return torch.cat(evidence, 1)


class _ForEachPenalty(Packed):
    """With a dimension for penalties after the first."""

    @cached_property
    def rows(self) -> Tensor:
        return super().rows.unsqueeze(1)

    @cached_property
    def outputs(self) -> Tensor:
        return super().outputs.unsqueeze(1)


def _for_each_penalty(packed: Packed) -> Packed:
    """Targets lie in memory as the fits do, rows last."""
    targets = packed.targets.double().transpose(1, 2).contiguous().transpose(1, 2)
    return _ForEachPenalty(packed.task, packed.x, targets.unsqueeze(1), packed.lengths, packed.widths)


def _values_evidence(problem: Problem, packed: Packed, believed: Tensor, norm: Tensor, grid: Tensor) -> Tensor:
    """Gaussian log-likelihood of the left-out rows, (B, G), each target by its own variance."""
    n = believed.sum(1, keepdim=True)
    variance = problem.t.square().sum(1) / n.clamp(min=1)
    real = packed.outputs & (variance > 0)
    variance = torch.where(real, variance, 1.0)[:, None]
    evidence = []
    for _, errors in _leave_one_out_fits(problem, norm, grid):
        mse = (errors.square() * believed[:, None, :, None]).sum(2) / n.clamp(min=1).unsqueeze(2)
        evidence.append(-0.5 * n * ((mse / variance + _LEAST_ERROR).log() * real.unsqueeze(1)).sum(2))
    return torch.cat(evidence, 1)


def _leave_one_out_fits(problem: Problem, norm: Tensor, grid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The fit less the offset and the left-out errors, both (B, G, N, C), for as many penalties of the grid as are
    best computed together. Both mean nothing in padded rows.

    One eigendecomposition serves all of them.
    """
    root, t = problem.root, problem.t.transpose(1, 2)
    s, vectors = torch.linalg.eigh(problem.gram)
    s = s.clamp(min=0)
    dual = problem.gram.shape[1] == problem.a.shape[1]
    p = (vectors * s.sqrt().unsqueeze(1) if dual else problem.a @ vectors).transpose(1, 2)  # p' p = a a'
    projected, square = t @ p.transpose(1, 2), p.square()
    mean_share = root.square() / root.square().sum(1, keepdim=True)
    weighted = 1 / root.clamp(min=_LEAST_ROOT)[:, None, None]
    for octaves in torch.split(grid, at_once(t.numel())):
        shrunk = 1 / (s.unsqueeze(1) + (norm[:, None] * octaves.exp2()).unsqueeze(2))
        fit = ((shrunk.unsqueeze(2) * projected.unsqueeze(1)).flatten(1, 2) @ p).unflatten(1, (len(octaves), -1))
        kept = (1 - shrunk @ square - mean_share.unsqueeze(1)).clamp(min=_LEAST_KEPT)
        errors = (t.unsqueeze(1) - fit) * (weighted / kept.unsqueeze(2))
        yield (fit * weighted).transpose(2, 3), errors.transpose(2, 3)
