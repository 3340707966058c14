"""MAML++: Antoniou, Edwards, Storkey, "How to train your MAML", ICLR 2019, section 4.

MAML with an inner rate of its own for each parameter tensor and step (LSLR), a scale and shift of its own for each norm
and step (BNWB) beside each step's own statistics (BNRS), and an outer loss that begins with the queries' loss after
every step and ends with that after the last (MSL). Meta-training begins first order (DA).
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
from kshot.learners.inner_loop import HEAD_WEIGHT, InnerLoop, Weights, encoder_name

_RATE, _NORM = "step_rate.", "norm."
_MULTI_STEP_SHARE, _FIRST_ORDER_SHARE = 0.2, 0.3
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class MAMLPP(GradientLearner):
    """Head: ``step_rate.<name>`` (steps), ``inner_lr`` at first. For encoders whose norms belong to the task also
    ``norm.<name>`` (steps - 1, C), scales and shifts from the second step on; the encoder's own are the first step's.

    Steps are the manifest's ``inner_steps``; where more are asked for, the last one's rates and norms are repeated.
    Meta-training options: ``multi_step_share`` and ``first_order_share``, the parts of training with a loss after every
    step, and of first order.
    """

    name: str = "mamlpp"
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
        steps, norms = inner_steps(options), self._norms(encoder)
        moving = [name for name in (*self.moving_weights(encoder), *head) if name not in norms]
        rates = {_RATE + name: torch.full((steps,), inner_lr(options)) for name in moving}
        later = {_NORM + name: norm.detach().repeat(steps - 1, 1) for name, norm in norms.items() if steps > 1}
        return head | rates | later

    def inner_loop(self, encoder: Encoder, head: Head, settings: Mapping[str, Any]) -> InnerLoop:
        first_order = _done(settings) < float(settings.get("first_order_share", _FIRST_ORDER_SHARE))
        norms = self._norms(encoder)
        fixed = (norms, *_by_step(_NORM, head)) if norms else ()
        return InnerLoop(
            inner_steps(settings),
            inner_lr(settings),
            first_order,
            head_first=True,
            rates=_by_step(_RATE, head),
            fixed=fixed,
        )

    def outer_shares(self, steps: int, options: Mapping[str, Any]) -> dict[int, float]:
        """All steps alike at first; linearly towards the last one, none of the others below 0.01, then that alone."""
        part, last = float(options.get("multi_step_share", _MULTI_STEP_SHARE)), steps - 1
        if _done(options) >= part:
            return {last: 1.0}
        others = min(max((1 - _done(options) / part) / steps, _LEAST_SHARE), 1 / steps)
        return dict.fromkeys(range(last), others) | {last: 1 - last * others}

    def _norms(self, encoder: Encoder) -> Weights:
        """Scales and shifts of the norms that belong to the task."""
        modules = {name.rpartition(".")[0] for name in encoder.statistic_names}
        names = {encoder_name(name) for name, _ in encoder.named_parameters() if name.rpartition(".")[0] in modules}
        return {name: weight for name, weight in self.moving_weights(encoder).items() if name in names}


def _by_step(prefix: str, head: Head) -> tuple[Weights, ...]:
    """The head's tensors below the prefix, the first step's, the second step's and so on."""
    found = {name.removeprefix(prefix): tensor for name, tensor in head.items() if name.startswith(prefix)}
    steps = min((len(tensor) for tensor in found.values()), default=0)
    return tuple({name: tensor[step] for name, tensor in found.items()} for step in range(steps))


def _done(options: Mapping[str, Any]) -> float:
    """The share of meta-training that is past; 1 where there is none going on."""
    return float(options.get("done", 1.0))
