"""FiLM, a scale and a shift of each feature for one task: Perez et al., "FiLM: Visual reasoning with a general
conditioning layer", AAAI 2018, eq. 2, with the rectifier that follows it there; here found on the support, by gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.learners.base import Head, Support
from kshot.learners.batching import Packed, grouped, pack
from kshot.learners.closed_form import centred, solve
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import can_leave_out


@dataclass(frozen=True)
class Film:
    """``scale`` and ``shift``: (d,). At scale 1 and shift 0 an embedding that ends in a rectifier stays as it is."""

    scale: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Embeddings (n, d) -> (n, d), relu(scale * x + shift)."""
        return torch.relu(self.scale * x + self.shift)


def fit_film(x: Tensor, targets: Sequence[Support], head: Head, steps: int, lr: float) -> Film:
    """Plain gradient steps for all targets of a task together, on what their closed-form heads miss by.

    ``x``: the support's embeddings (n, d), none below 0. ``targets``: one support for each target, its inputs the
    numbers of the rows that have it. The loss of a target is the squared error of the exact leave-one-out, divided by
    the target's variance; a step is ``lr`` times d times the gradient of the targets' mean, so that it does not shrink
    as embeddings widen. Penalties stay those of the untouched embedding.
    Raises Invalid where the embedding does not end in a rectifier.
    """
    if bool((x < 0).any()):
        raise Invalid("FiLM needs an encoder whose embedding ends in a rectifier", param="options.learner")
    x = x.detach().double()
    groups = [[targets[i] for i in group] for group in grouped([target.task for target in targets])]
    penalties = [_penalty(_packed(group, x), head) for group in groups]
    film = Film(torch.ones_like(x[0]), torch.zeros_like(x[0]))
    for _ in range(steps):
        scale, shift = film.scale.requires_grad_(), film.shift.requires_grad_()
        with torch.enable_grad():
            z = film(x)
            losses = [_missed(_packed(group, z), l2, head).sum() for group, l2 in zip(groups, penalties, strict=True)]
            by_scale, by_shift = torch.autograd.grad(torch.stack(losses).sum() / len(targets), [scale, shift])
        step = lr * x.shape[1]
        film = Film((scale - step * by_scale).detach(), (shift - step * by_shift).detach())
    return Film(film.scale.float(), film.shift.float())


def _packed(targets: Sequence[Support], x: Tensor) -> Packed:
    return pack(targets, [x[torch.as_tensor(target.inputs, device=x.device)] for target in targets])


def _penalty(packed: Packed, head: Head) -> Tensor:
    if "log_l2" in head:
        return head["log_l2"].detach().double().exp().expand(len(packed.x))
    return choose_l2(centred(packed, evened=True), packed, _believed(packed))


def _missed(packed: Packed, l2: Tensor, head: Head) -> Tensor:
    """The leave-one-out error of each target (B,) as a share of its variance; 0 where no row can be left out."""
    problem = centred(packed, evened="log_l2" not in head)
    errors = solve(problem, l2).left_out * problem.root.unsqueeze(2) * _believed(packed).unsqueeze(2)
    variance = problem.t.square().sum((1, 2))
    return errors.square().sum((1, 2)) / torch.where(variance > 0, variance, 1.0)


def _believed(packed: Packed) -> Tensor:
    return can_leave_out(packed.targets, packed.rows) if packed.task == "classification" else packed.rows
