"""Proto-MAML: Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples",
ICLR 2020, section 3.

With w_k = 2 c_k and b_k = -||c_k||^2 a linear head gives -||f(x) - c_k||^2 but for what all classes share (eq. 3), c_k
the mean embedding of class k. From there the inner steps move encoder and head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.encoders.base import Encoder
from kshot.learners.base import NO_OPTIONS, Head
from kshot.learners.batching import Packed
from kshot.learners.gradient import GradientLearner, inner_lr, inner_steps
from kshot.learners.inner_loop import HEAD_BIAS, HEAD_WEIGHT, InnerLoop, Weights
from kshot.learners.protonet import class_means


@dataclass(frozen=True)
class ProtoMAML(GradientLearner):
    """Nothing but the encoder is meta-learned; outer gradients flow through the head's start and the inner steps."""

    name: str = "protomaml"
    needs: tuple[str, ...] = ()
    tasks: frozenset[TaskKind] = frozenset({"classification"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        return {}

    def inner_loop(self, encoder: Encoder, head: Head, settings: Mapping[str, Any]) -> InnerLoop:
        return InnerLoop(inner_steps(settings), inner_lr(settings))

    def start_heads(self, head: Head, support: Packed, embeddings: Callable[[], Tensor]) -> Weights:
        prototypes = class_means(replace(support, x=embeddings()))
        return {HEAD_WEIGHT: 2 * prototypes, HEAD_BIAS: -prototypes.square().sum(-1)}
