"""How the losses of several tasks become one step.

``equal``: their mean. ``uncertainty``: Kendall, Gal, Cipolla, "Multi-task learning using uncertainty to weigh losses",
CVPR 2018. ``pcgrad``: Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020. ``upgrad``: Quinton and Rey,
"Jacobian descent for multi-objective optimization", 2024. ``affinity``: Fifty et al., NeurIPS 2021, each task by how
much its step helps the others (:mod:`kshot.relations.affinity`), or the one that the training option ``target`` names.
PCGrad and UPGrad are made by torchjd, from the Gramian of the gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kshot.contracts.recipe import Weighting
from kshot.training.world import ALONE, World

SURGICAL: frozenset[Weighting] = frozenset({"pcgrad", "upgrad"})
FIRST_S = -0.5


def uncertainty_loss(losses: Tensor, s: Tensor, world: World = ALONE) -> Tensor:
    """The sum over tasks of L_i / (2 e^{s_i}) + s_i / 2, where s_i = log sigma_i^2 is learned. Both (T,).

    Of parts of the losses, the part of it.
    """
    return (losses / (2 * s.exp()) + s / (2 * world.size)).sum()


def gramian(losses: Tensor, shared: Sequence[Tensor], world: World = ALONE) -> Tensor:
    """The products (T, T) of the tasks' gradients with respect to the ``shared`` parameters; the graph is kept.

    ``losses`` (T,) may be parts; the products are those of the whole losses.
    """
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    (jacobian,) = world.total([torch.stack(rows)])
    return jacobian @ jacobian.T


def cosines(products: Tensor) -> Tensor:
    """The cosines (T, T) between gradients; NaN where a task has none, for lack of rows that have its target."""
    norms = products.diagonal().sqrt()
    return products / (norms[:, None] * norms[None, :])


def conflict_weights(weighting: Weighting, products: Tensor) -> Tensor:
    """The weights (T,) of the tasks' gradients in the shared step, whose plain mean has 1 / T everywhere.

    Only where some measured cosine is negative is there anything to change.
    """
    tasks = len(products)
    if weighting not in SURGICAL or not bool((products < 0).any()):
        return torch.full((tasks,), 1 / tasks, dtype=products.dtype, device=products.device)
    from torchjd.aggregation import PCGradWeighting, UPGradWeighting  # of the extra `train`, and slow to import

    if weighting == "upgrad":
        return UPGradWeighting()(products)
    return PCGradWeighting()(products) / tasks
