"""k nearest neighbours with honest probabilities, as a function of distances that has no jumps where neighbours tie.

Cover and Hart, "Nearest neighbor pattern classification", 1967.
"""

import torch
from torch import Tensor

from kshot.learners.batching import Packed

_BORDER = 0.01  # of the squared distance at which neighbours end: within it a row is a neighbour in part
_LEAST_BORDER = 1e-5  # of the largest squared distance


def votes(distances: Tensor, support: Packed, counted: Tensor, neighbours: int) -> Tensor:
    """What share of a query's neighbours is of each class, (B, Q, C); sums to 1.

    ``distances``: (B, Q, N), squared. ``counted``: (B, Q or 1, N), True for the rows that may be neighbours. There are
    ``neighbours`` of them, but no more than an average class has rows: the nearest one with one example per class.
    Rows that tie for the last place share it, so that neither their order nor round-off decides. A row counts the less
    the more rows its class has: a class's size in the support is no evidence for it (learning.md, imbalanced supports).
    """
    counted = counted.expand_as(distances)
    near = _membership(distances, counted, _number(support, counted, neighbours))
    sizes = counted.to(near) @ support.targets
    found = near @ support.targets / sizes.clamp(min=1)
    return found / found.sum(2, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def log_probabilities(shares: Tensor, support: Packed, smoothing: Tensor) -> Tensor:
    """log p (B, Q, C): the shares of the votes, and ``smoothing`` (B,) of a whole vote more for every class."""
    each = smoothing[:, None, None]
    ways = support.outputs.sum(1)[:, None, None]
    return ((shares + each) / (1 + each * ways)).log()


def _number(support: Packed, counted: Tensor, neighbours: int) -> Tensor:
    """How many neighbours each query has, (B, Q, 1)."""
    ways = support.outputs.sum(1)[:, None, None]
    rows = counted.sum(2, keepdim=True)
    average = torch.div(rows + ways - 1, ways, rounding_mode="floor")
    return average.clamp(max=neighbours).minimum(rows).clamp(min=1)


def _membership(distances: Tensor, counted: Tensor, number: Tensor) -> Tensor:
    """How far each row is a neighbour, 0 to 1, (B, Q, N): the border lies midway between the last one and the next."""
    known = distances.masked_fill(~counted, torch.inf).sort(2).values
    largest = distances.masked_fill(~counted, 0.0).amax(2, keepdim=True)
    last = known.gather(2, number - 1)
    following = known.gather(2, number.clamp(max=known.shape[2] - 1))
    everyone = number >= counted.sum(2, keepdim=True)
    border = torch.where(everyone, torch.inf, (last + following) / 2)
    width = (_BORDER * torch.where(everyone, 1.0, border)).maximum(_LEAST_BORDER * largest) + 1e-12
    inside = 0.5 + (border - distances) / (2 * width)
    return inside.clamp(0, 1) * counted
