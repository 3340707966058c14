"""Reptile: Nichol, Achiam, Schulman, "On First-Order Meta-Learning Algorithms", 2018.

theta <- theta + eps * mean over tasks of (theta_task - theta) (algorithm 2), theta_task after ``inner_steps`` of Adam
with beta1 = 0 on mini-batches of the task. No derivative passes through the inner loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import NO_OPTIONS, Head, Support, device_of
from kshot.learners.batching import Packed, grouped, pack
from kshot.learners.gradient import GradientLearner, inner_steps
from kshot.learners.inner_loop import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    InnerLoop,
    Weights,
    descend,
    linear_forward,
    rows_of,
    stack_of,
    support_statistics,
)
from kshot.learners.losses import as_queries, summed_loss

_USUAL_LR, _USUAL_BATCH = 1e-3, 10


@dataclass(frozen=True)
class Reptile(GradientLearner):
    """Meta-training takes mini-batches of ``inner_batch`` rows of support and queries together (section 6.1), drawn
    from a seed of each task: one of ``options["seeds"]``, or as torch's global generator says. Serving takes full,
    class-balanced batches of the support, so that nothing is drawn.

    Written for an outer loop of plain SGD, whose learning rate is then eps. Served steps are usually more than trained
    ones (50 and 5 in the paper): the manifest's ``inner_steps`` and the recipe's ``training.options`` differ.
    """

    name: str = "reptile"

    def inner_loop(self, encoder: Encoder, head: Head, settings: Mapping[str, Any]) -> InnerLoop:
        lr = float(settings.get("inner_lr", _USUAL_LR))
        return InnerLoop(inner_steps(settings), lr, first_order=True, head_first=True, adam=True)

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        """The adapted weights' mean query loss, with theta - mean(theta_task) for a gradient instead of its own.

        The queries were among the rows adapted to, so the loss says how training goes, not how good the answers are.
        """
        device, loop = device_of(encoder, head), self.inner_loop(encoder, head, options)
        x = self._read(encoder, [support.inputs for support in supports] + list(queries), device)
        asked = as_queries(supports, queries, targets)
        embed, start = self._embed(encoder, NO_OPTIONS), self._start(encoder)
        theta, total = start | dict(head), torch.zeros((), device=device)
        size = int(options.get("inner_batch", _USUAL_BATCH))
        seeds = options.get("seeds", torch.randint(1 << 62, (len(supports),)))
        sizes = [(s.task, len(s.targets), len(q.targets), s.n_outputs) for s, q in zip(supports, asked, strict=True)]
        for group in self._shares(encoder, grouped(sizes), x, queries):
            support = pack([supports[i] for i in group], x.padded(group))
            query = pack([asked[i] for i in group], x.padded([len(supports) + i for i in group]))
            with torch.no_grad():
                batches = _batches(_together(support, query), loop.steps, size, seeds[group])
                adapted = self._ends(encoder, head, batches, loop)
                known = support_statistics(embed, adapted, support.x)
                value = summed_loss(linear_forward(adapted, embed(adapted | known, query.x)), query)
            pull = torch.stack([(gap * theta[name]).sum() for name, gap in _gaps(theta, adapted, support.task)]).sum()
            total = total + value + pull - pull.detach()
        return total / len(supports)

    def _ends(self, encoder: Encoder, head: Head, batches: Packed, loop: InnerLoop) -> Weights:
        """The weights of B tasks after a step on each of their batches. ``batches``: Packed, (B, steps, rows, ...)."""
        embed, start = self._embed(encoder, NO_OPTIONS), self._start(encoder)
        heads = super().start_heads(head, batches, lambda: batches.x)
        w = torch.full_like(batches.targets[:, 0, :, 0], 1 / batches.targets.shape[2])
        steps = [
            rows_of(replace(batches, x=batches.x[:, step], targets=batches.targets[:, step]), w)
            for step in range(batches.x.shape[1])
        ]
        *_, end = descend(embed, stack_of(start, len(w)) | heads, batches.task, loop, steps)
        return end


def _together(support: Packed, query: Packed) -> Packed:
    x, targets = torch.cat([support.x, query.x], 1), torch.cat([support.targets, query.targets], 1)
    return support.holding(x, targets, torch.cat([support.rows, query.rows], 1))


def _batches(pool: Packed, steps: int, size: int, seeds: Tensor) -> Packed:
    """Of each task the rows of ``steps`` mini-batches: shuffled and gone through, again and again."""
    n = pool.x.shape[1]
    size = min(size, n)
    rounds = -(-steps * size // n)
    chances = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    order = torch.stack(
        [torch.cat([torch.randperm(n, generator=own) for _ in range(rounds)])[: steps * size] for own in chances]
    )
    task, row = torch.arange(len(order))[:, None, None], order.reshape(len(order), steps, size)
    return pool.holding(pool.x[task, row], pool.targets[task, row], pool.rows[task, row])


def _gaps(theta: Weights, adapted: Weights, task: TaskKind) -> list[tuple[str, Tensor]]:
    """Of each weight theta - theta_task, summed over the tasks, as a constant.

    The row that all classes start from went where their rows went on average.
    """
    gaps = []
    for name, weight in theta.items():
        end = adapted[name]
        if task == "classification" and name in (HEAD_WEIGHT, HEAD_BIAS):
            end = end.mean(1, keepdim=True)
        gaps.append((name, (weight - end).sum(0).detach()))
    return gaps
