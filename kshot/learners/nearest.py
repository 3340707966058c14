"""Which examples of a support are most like a query: an explanation that anyone can check by looking at them.

Nearness is that of the checkpoint's embedding. Learners that keep the encoder as it is (protonet, matching, ridge and
others) answer by the very same embedding; those whose inner loop moves it answer by another one that began there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.wire import Inputs
from kshot.learners.base import device_of
from kshot.learners.batching import alike, embed, grouped, mask, pad
from kshot.learners.closed_form import even_spread
from kshot.learners.protonet import squared_distances

NEAREST = 3

_ROUND_OFF = 1e-4  # of an embedding's length: rows that are no further apart count as equal


@dataclass(frozen=True)
class Near:
    """Of each of q queries the k rows of the support nearest to it, nearest first: their numbers and how similar they
    are, both (q, k) on the CPU."""

    rows: Tensor
    similarities: Tensor


@torch.no_grad()
def nearest(
    checkpoint: Checkpoint, supports: Sequence[Inputs], queries: Sequence[Inputs], k: int = NEAREST
) -> list[Near]:
    """The ``k`` nearest examples (all, where there are fewer) of each support's own queries.

    Nearest by Euclidean distance d between embeddings, features on unlike scales divided by their spread over the
    support (:func:`~kshot.learners.closed_form.even_spread`). Similarity is s^2 / (s^2 + d^2), s^2 the mean squared
    distance of two of the support's rows: 1 where nothing tells query and row apart, 0.5 where they are as far apart as
    two of the support's rows usually are, towards 0 beyond. With a single row it is 1 or 0.
    """
    x, q = _embedded(checkpoint, supports, queries)
    found: dict[int, Near] = {}
    for group in grouped([(alike(len(rows)), alike(len(asked))) for rows, asked in zip(x, q, strict=True)]):
        found.update(zip(group, _among([x[i] for i in group], [q[i] for i in group], k), strict=True))
    return [found[i] for i in range(len(supports))]


def _embedded(
    checkpoint: Checkpoint, supports: Sequence[Inputs], queries: Sequence[Inputs]
) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings (n, d) of each support and (q, d) of its queries, all in one pass where no norm belongs to a task."""
    encoder, device = checkpoint.encoder, device_of(checkpoint.encoder, checkpoint.head)
    if not encoder.statistic_names:
        blocks = embed(encoder, [*supports, *queries], device)
        return blocks[: len(supports)], blocks[len(supports) :]
    x, q = [], []
    for support, query in zip(supports, queries, strict=True):
        rows = encoder.prepare(support, device).unsqueeze(0)
        known = encoder.statistics({}, rows)
        x.append(encoder.stacked(known, rows)[0])
        q.append(encoder.stacked(known, encoder.prepare(query, device).unsqueeze(0))[0])
    return x, q


def _among(supports: Sequence[Tensor], queries: Sequence[Tensor], k: int) -> list[Near]:
    """Of tasks alike in size. Rows that tie come in the support's order."""
    sizes = [len(rows) for rows in supports]
    real = mask(sizes, supports[0].device)
    x, q = pad(supports).double(), pad(queries).double()
    n = real.sum(1, keepdim=True)
    centre = (x * real.unsqueeze(2)).sum(1, keepdim=True) / n.unsqueeze(2)
    variance = ((x - centre) * real.unsqueeze(2)).square().sum(1) / n
    spread = even_spread(variance)
    usual = 2 * (variance / spread.square()).sum(1, keepdim=True) * n / (n - 1).clamp(min=1)
    distances = squared_distances((q - centre) / spread.unsqueeze(1), (x - centre) / spread.unsqueeze(1)).clamp(min=0)
    ordered = distances.masked_fill(~real.unsqueeze(1), torch.inf).sort(stable=True, dim=2)
    size = (x / spread.unsqueeze(1)).square().sum((1, 2)).unsqueeze(1) / n  # padding is zero
    usual = usual.maximum(_ROUND_OFF**2 * size).clamp(min=torch.finfo(usual.dtype).tiny).unsqueeze(2)
    similarities, rows = (usual / (usual + ordered.values)).cpu(), ordered.indices.cpu()
    return [
        Near(rows[i, : len(asked), : min(k, size)], similarities[i, : len(asked), : min(k, size)])
        for i, (size, asked) in enumerate(zip(sizes, queries, strict=True))
    ]
