"""From scores to logits: scales that were never meta-trained, by leave-one-out, with a prior where rows are few."""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.losses import NEVER

_OCTAVES = torch.linspace(-6.0, 6.0, 25)
_PRIOR_STD = 1.5  # octaves
_LEAST_GAP = 1e-3
_NO_CLASS = -1
_NUMBERS_AT_ONCE = 1 << 18  # 2 MB in double precision
ROUND_OFF = 1e-6  # relative: by so much the float32 embeddings of equal inputs may differ
_SURE = 1e-2  # of a feature's own size: no round-off of an embedding moves it as far as that


def fit_scale(logits: Tensor, packed: Packed, left_out: Tensor, usual: Tensor) -> Tensor:
    """The factor (B,) that makes softmax(factor * logits) honest.

    ``logits``: (B, N, C), each support row's answer from the others. ``left_out``: (B, N), rows whose answer counts.
    ``usual``: (B,), the factor to expect before looking.
    """
    rows_last = logits.mT.contiguous()  # (B, C, N): no sum is over neighbours
    if packed.ragged_outputs:
        rows_last = rows_last.masked_fill(~packed.outputs.unsqueeze(2), NEVER)
    truth = believed_classes(packed, left_out)

    def losses(factors: Tensor) -> Tensor:
        return left_out_losses(factors.view(*factors.shape, 1, 1) * rows_last.unsqueeze(1), truth)

    return posterior_scale(losses, usual, logits.numel())


def believed_classes(packed: Packed, left_out: Tensor) -> Tensor:
    """Each row's class (B, N), or what :func:`left_out_losses` takes for none where ``left_out`` (B, N) is False."""
    return packed.targets.argmax(2).masked_fill(~left_out, _NO_CLASS)


def left_out_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """The cross-entropy (B, S) of S variants of the left-out rows' logits (B, S, C, N), summed over the rows that
    count."""
    tried, flat = logits.shape[1], logits.flatten(0, 1)
    answers = truth.unsqueeze(1).expand(-1, tried, -1).flatten(0, 1)
    losses = torch.nn.functional.cross_entropy(flat, answers, reduction="none", ignore_index=_NO_CLASS)
    return losses.sum(1).view(-1, tried)


def posterior_scale(losses: Callable[[Tensor], Tensor], usual: Tensor, numbers: int) -> Tensor:
    """The scale (B,) to use where scales (B, S) cost ``losses(scales)`` (B, S) nats over a task's left-out rows.

    ``usual``: (B,), the scale to expect before looking. ``numbers``: how many of them each scale takes to compute: all
    are tried at once where memory near the processor allows. The posterior mean of log(scale) over a grid, rather than
    the best grid point: it moves smoothly with the support, so that round-off never tips it over.
    """
    octaves = _OCTAVES.to(usual)
    scales = usual[:, None] * octaves.exp2()
    costs = torch.cat([losses(some) for some in torch.split(scales, at_once(numbers), 1)], 1)
    evidence = -0.5 * (octaves / _PRIOR_STD).square() - costs
    return usual * (evidence.softmax(1) @ octaves).exp2()


def at_once(numbers: int) -> int:
    """How many points of a grid, each of which takes so many numbers, are best computed in one go."""
    return max(1, _NUMBERS_AT_ONCE // max(1, numbers))


def told_apart(variance: Tensor, size: Tensor) -> Tensor:
    """(B,): whether any feature moves by more than round-off. ``variance``: (B, d). ``size``: (B, d), its mean square.

    Round-off of an embedding goes by the size of all its features. In a table a small one may move beside a large one
    that stands still: hence a feature that moves for certain by its own size counts too.
    """
    moving = (variance > ROUND_OFF**2 * size.mean(1, keepdim=True)) | (variance > _SURE**2 * size)
    return moving.any(1)


def scale_of_margin(nats: float, apart: Tensor, size: Tensor, round_off: Tensor) -> Tensor:
    """The scale (B,) by which rows that are ``apart`` (B,) on average are worth ``nats``.

    Where they are apart by ``round_off`` (B,) at most they look alike, and the scale goes by the rows' ``size`` (B,)
    instead: then it makes nothing of their difference.
    """
    told = torch.where(apart > round_off, apart, size)
    return nats / torch.where(told > torch.finfo(told.dtype).tiny, told, 1.0)


def usual_scale(fit: Tensor, packed: Packed, width: int) -> Tensor:
    """The logits' scale to expect (B,), given the fit (B, N, C) of the support rows themselves, 0 in padding."""
    return _scale((fit * packed.targets).sum((1, 2)), fit.sum((1, 2)), packed, width)


def class_gains(fit: Tensor, packed: Packed) -> Tensor:
    """A factor for each class's scores (B, 1, C), see :func:`gains_and_scale`, by the ``fit`` (B, N, C)."""
    return _gains((fit * packed.targets).sum(1), packed).unsqueeze(1)


def gains_and_scale(own: Tensor, every: Tensor | None, packed: Packed, width: int) -> tuple[Tensor, Tensor]:
    """A factor for each class's scores (..., B, C), about 1, and the scale (..., B) to expect of logits so changed.

    ``own`` and ``every``: (..., B, C), the centred scores of the support rows by class, summed over that class's own
    rows and over all, which gives 0 where all weigh the same: None. The factor goes as 1 / sqrt(the class's mean score
    for its own rows): all classes' directions then have the same length in the metric of the fit, as in discriminant
    analysis; without it classes far from the rest win too often, the more the more classes there are. 1 in tasks that
    have one example of each class, where that length is mostly noise.
    """
    gains = _gains(own, packed)
    return gains, _scale((own * gains).sum(-1), None if every is None else (every * gains).sum(-1), packed, width)


def _gains(own: Tensor, packed: Packed) -> Tensor:
    n, ways = packed.targets.shape[1:]
    if packed.even and n == ways:
        return torch.ones_like(own)
    if packed.even:
        lengths = own.clamp(min=_LEAST_GAP * n / ways)
        return (lengths.mean(-1, keepdim=True) / lengths).sqrt()
    lengths = (own / packed.class_sizes.clamp(min=1)).clamp(min=_LEAST_GAP) * packed.outputs
    relative = lengths * (packed.ways / lengths.sum(-1, keepdim=True))
    return torch.where(packed.several, relative, 1.0).rsqrt()


def _scale(own: Tensor, every: Tensor | None, packed: Packed, width: int) -> Tensor:
    """The gap between a row's own class and the others is worth 0.6 sqrt(width) nats: in more dimensions an unseen
    row's score is farther from the fitted ones, but also surer."""
    others = (-own if every is None else every - own) / (packed.ways.squeeze(1) - 1).clamp(min=1)
    gap = (own - others) / packed.rows.sum(1)
    nats = min(max(0.6 * sqrt(width), 1.0), 12.0)
    return nats / gap.clamp(min=_LEAST_GAP)
