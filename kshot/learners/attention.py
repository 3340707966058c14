"""Classes by attention over the support's rows: the similarity of two embeddings, and a class's share of it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from kshot.contracts.errors import Invalid
from kshot.learners.batching import Packed
from kshot.learners.losses import NEVER
from kshot.learners.protonet import squared_distances

Similarity = Callable[[Tensor, Tensor], Tensor]
"""Embeddings (B, Q, d) and (B, N, d) -> how alike they are, (B, Q, N)."""


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return functional.normalize(x, dim=2) @ functional.normalize(y, dim=2).transpose(1, 2)


SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {
        "l2": lambda x, y: -squared_distances(x, y),
        "cosine": _cosine,
        "dot": lambda x, y: x @ y.transpose(1, 2),
    }
)


def similarity_of(distance: object) -> Similarity:
    """The similarity a manifest's option ``distance`` names. Raises Invalid for another name."""
    if not isinstance(distance, str) or distance not in SIMILARITIES:
        raise Invalid(f"the option distance of learner matching is one of {', '.join(SIMILARITIES)}")
    return SIMILARITIES[distance]


def class_log_probabilities(scores: Tensor, support: Packed, counted: Tensor) -> Tensor:
    """log p(class | query), (B, Q, C), by attention over the support's rows.

    ``scores``: (B, Q, N). ``counted``: (B, Q or 1, N), True for the rows that are attended to.
    The paper's p(y | x) = sum_i a(x, x_i) y_i with a = softmax(scores) adds the attention up by class (eq. 1). Here
    each class's sum is divided by its number of rows, by our rule that a class's size in the support is no evidence for
    it (learning.md, imbalanced supports). For classes of one size, as in the paper's episodes, that is the same.
    """
    highest, sums = _class_sums(scores.masked_fill(~counted, -torch.inf), support.targets)
    sizes = counted.to(sums) @ support.targets
    mean = sums / sizes.clamp(min=1)
    logits = highest + mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
    return logits.masked_fill(~support.outputs.unsqueeze(1), NEVER).log_softmax(2)


def _class_sums(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each class's highest score, and the sum of exp(score - highest) over its rows, both (B, Q, C).

    Each class by its own highest score: classes far away keep finite logarithms.
    """
    own = targets.argmax(2).unsqueeze(1).expand_as(scores)
    none = scores.new_full((*scores.shape[:2], targets.shape[2]), -torch.inf)
    highest = none.scatter_reduce(2, own, scores.detach(), "amax")
    highest = highest.masked_fill(highest == -torch.inf, 0.0)
    return highest, (scores - highest.gather(2, own)).exp() @ targets
