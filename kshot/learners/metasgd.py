"""Meta-SGD: Li, Zhou, Chen, Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017.

theta' = theta - alpha * grad L_support(theta), elementwise (eq. 3): alpha has theta's shape and is meta-learned with it
(eq. 4), so it holds directions as well as rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.encoders.base import Encoder
from kshot.learners.base import NO_OPTIONS, Head
from kshot.learners.gradient import GradientLearner, inner_lr, inner_steps
from kshot.learners.inner_loop import HEAD_WEIGHT, InnerLoop

_RATE = "rate."


@dataclass(frozen=True)
class MetaSGD(GradientLearner):
    """Alpha of each weight is the head's tensor ``rate.<name>``, signed, ``inner_lr`` of the manifest at first.

    One row of rates serves all classes, like the row they start from. ``inner_steps`` > 1 repeats eq. 3. For classes
    the first step moves only the head (all start alike): alpha of the encoder counts from the second step on.
    """

    name: str = "metasgd"
    needs: tuple[str, ...] = (HEAD_WEIGHT, _RATE + HEAD_WEIGHT)
    options: frozenset[str] = frozenset({"inner_steps"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        head = super().init_head(encoder, task, n_targets, generator, options)
        moving = self.moving_weights(encoder) | head
        rates = {_RATE + name: torch.full(weight.shape, inner_lr(options)) for name, weight in moving.items()}
        return head | rates

    def inner_loop(self, encoder: Encoder, head: Head, settings: Mapping[str, Any]) -> InnerLoop:
        rates = {name.removeprefix(_RATE): rate for name, rate in head.items() if name.startswith(_RATE)}
        return InnerLoop(inner_steps(settings), inner_lr(settings), head_first=True, rates=(rates,))
