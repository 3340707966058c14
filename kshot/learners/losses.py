"""Losses over padded tasks, and the meta-loss of learners that work on embeddings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import Support
from kshot.learners.batching import Packed, embed, groups, pack

NEVER = -1e9
"""The logit of a padded class: its probability is exactly 0, its derivatives finite."""


def row_losses(task: TaskKind, outputs: Tensor, targets: Tensor, columns: Tensor) -> Tensor:
    """Loss of each row, (..., N): cross-entropy, or squared error averaged over the targets.

    ``outputs`` and ``targets``: (..., N, C). ``columns``: (..., C), True where a class or target is real.
    """
    if task == "classification":
        log_p = outputs.masked_fill(~columns.unsqueeze(-2), NEVER).log_softmax(-1)
        return -(targets * log_p).sum(-1)
    real = columns.unsqueeze(-2)
    return ((outputs - targets).square() * real).sum(-1) / real.sum(-1)


def balanced_weights(packed: Packed, dtype: torch.dtype | None = None) -> Tensor:
    """Weights (B, N) that sum to 1 in each task: each class the same share, each row of it the same; 0 in padding.

    Imbalanced supports cost gradient methods up to 18 points without it (learning.md, pitfalls).
    """
    dtype = dtype or packed.x.dtype
    if packed.even:
        return packed.x.new_full(packed.targets.shape[:2], 1 / packed.targets.shape[1], dtype=dtype)
    rows = packed.rows.to(dtype)
    if packed.task == "regression":
        return rows / rows.sum(1, keepdim=True)
    return rows / (packed.same_class.to(dtype).clamp(min=1) * packed.ways)


def embedding_meta_loss(
    encoder: Encoder,
    device: torch.device,
    supports: Sequence[Support],
    queries: Sequence[Inputs],
    targets: Sequence[Tensor],
    answer: Callable[[Packed, Tensor], Tensor],
) -> Tensor:
    """Mean over tasks of the mean query loss, all inputs embedded in one call.

    ``answer``: a packed support and its query embeddings (B, Q, d) -> outputs (B, Q, C).
    """

    def loss(support: Packed, query: Packed) -> Tensor:
        return summed_loss(answer(support, query.x), query)

    return mean_over_tasks(encoder, device, supports, queries, targets, loss)


def mean_over_tasks(
    encoder: Encoder,
    device: torch.device,
    supports: Sequence[Support],
    queries: Sequence[Inputs],
    targets: Sequence[Tensor],
    loss: Callable[[Packed, Packed], Tensor],
) -> Tensor:
    """Mean over tasks of any loss of embedded episodes, all inputs embedded in one call.

    ``loss``: the supports and the queries of B tasks, packed -> the sum of their losses.
    """
    features = embed(encoder, [support.inputs for support in supports] + list(queries), device)
    asked = as_queries(supports, queries, targets)
    total = torch.zeros((), device=device)
    for group in groups(supports):
        support = pack([supports[i] for i in group], [features[i] for i in group])
        query = pack([asked[i] for i in group], [features[len(supports) + i] for i in group])
        total = total + loss(support, query)
    return total / len(supports)


def as_queries(supports: Sequence[Support], queries: Sequence[Inputs], targets: Sequence[Tensor]) -> list[Support]:
    """Queries with their targets, in the form that :func:`~kshot.learners.batching.pack` takes."""
    return [Support(s.task, x, y, s.n_way) for s, x, y in zip(supports, queries, targets, strict=True)]


def summed_loss(outputs: Tensor, query: Packed) -> Tensor:
    """The mean query loss of each task, summed over the tasks."""
    losses = row_losses(query.task, outputs, query.targets, query.outputs)
    return ((losses * query.rows).sum(1) / query.rows.sum(1)).sum()
