"""What a training step for one task does to another: Fifty et al., "Efficiently identifying task groupings for
multi-task learning", NeurIPS 2021."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_LEAST = 1e-12


def affinity(losses: Callable[[], Tensor], shared: Sequence[Tensor], lr: float) -> Tensor:
    """Z (T, T): Z[i, j] = 1 - L_j(after a step for task i) / L_j, positive where the step for i helps j (equation 2).

    ``losses``: the tasks' losses (T,) at the present parameters, always on the same batch. ``shared``: the parameters
    that the plain gradient steps of rate ``lr`` move; they come back as they were. Tasks whose loss is 0 (no rows) have
    0 everywhere.
    """
    before = losses()
    steps = [torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True) for loss in before]
    kept = [parameter.detach().clone() for parameter in shared]
    rows = []
    with torch.no_grad():
        for step in steps:
            for parameter, gradient in zip(shared, step, strict=True):
                parameter.sub_(lr * gradient)
            rows.append(1 - losses() / before.clamp(min=_LEAST))
            for parameter, value in zip(shared, kept, strict=True):
                parameter.copy_(value)
    present = before.detach() > 0
    return torch.stack(rows).detach() * present * present[:, None]


def auxiliary_weights(z: Tensor, target: int | None = None) -> Tensor:
    """Weights (T,) of the tasks' losses that sum to 1, from affinities Z (T, T), for the good of task ``target``.

    A task counts by how much its step helps the target, measured by how much the target's own does, between 0 and 1:
    w_i = clamp(Z[i, target] / Z[target, target]), and w_target = 1. With ``target`` None the mean over all targets.
    """
    own = z.diagonal().clamp(min=_LEAST)
    helped = (z / own).clamp(0, 1)
    helped.fill_diagonal_(1.0)
    weights = helped.mean(1) if target is None else helped[:, target]
    return weights / weights.sum()
