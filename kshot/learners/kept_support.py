"""Adapted models that keep their support's embeddings, class by class: to tensors and back."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import one_hot

from kshot.learners.base import State
from kshot.learners.batching import Packed, pad


def kept_support(x: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Embeddings (n, d) and class numbers (n,) as a state's tensors ``support`` (n, d) and ``classes`` (n)."""
    return {"support": x.clone(), "classes": classes.to(x)}


def packed_support(states: Sequence[State]) -> Packed:
    """The supports the states keep, padded together."""
    x = [state.tensors["support"] for state in states]
    ways = [state.n_way or 0 for state in states]
    classes = [state.tensors["classes"].long() for state in states]
    targets = [one_hot(own, max(ways)).to(rows) for own, rows in zip(classes, x, strict=True)]
    return Packed("classification", pad(x), pad(targets), [len(block) for block in x], ways)
