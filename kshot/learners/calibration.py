"""The scale of logits that was never meta-trained: from leave-one-out answers, with a prior where they are few."""

import torch
from torch import Tensor

from kshot.learners.batching import Packed
from kshot.learners.losses import row_losses

_OCTAVES = torch.linspace(-6.0, 6.0, 25)
_PRIOR_STD = 1.5  # octaves


def fit_scale(logits: Tensor, packed: Packed, left_out: Tensor, usual: Tensor) -> Tensor:
    """The factor (B,) that makes softmax(factor * logits) honest.

    ``logits``: (B, N, C), each support row's answer from the others. ``left_out``: (B, N), rows whose answer counts.
    ``usual``: (B,), the factor to expect before looking. The posterior mean of log(factor) over a grid, rather than the
    best grid point: it moves smoothly with the support, so that round-off never tips it over.
    """
    octaves = _OCTAVES.to(logits)
    evidence = -0.5 * (octaves / _PRIOR_STD).square().expand(len(logits), -1).clone()
    for g, octave in enumerate(octaves):
        scaled = logits * (usual * 2**octave)[:, None, None]
        evidence[:, g] -= (row_losses(packed.task, scaled, packed.targets, packed.outputs) * left_out).sum(1)
    return usual * (evidence.softmax(1) @ octaves).exp2()
