"""A task as one vector, to say which tasks are alike: Task2Vec, Achille et al., ICCV 2019, with a head in closed form.

The embedding is the diagonal Fisher information of a linear head on a probe encoder's features: how much each feature
matters to the task's answers. It does not depend on how many classes there are, nor on their names.
"""

import torch
from torch import Tensor

from kshot.learners.base import Support
from kshot.learners.batching import pack
from kshot.learners.calibration import usual_scale
from kshot.learners.closed_form import centred, solve
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import can_leave_out

_LEAST = 1e-12


def task_embedding(support: Support, x: Tensor) -> Tensor:
    """(d,), for the probe encoder's embeddings x (n, d) of a support.

    With features z = x - mean and a softmax over classes p, the information about weight (c, d) is p_c (1 - p_c) z_d^2
    on average; summed over classes. For numbers it is z_d^2 over the noise's variance (paper, section 2.1).
    """
    packed = pack([support], [x])
    problem = centred(packed, evened=False)
    believed = can_leave_out(packed.targets, packed.rows) if support.task == "classification" else packed.rows
    solution = solve(problem, choose_l2(problem, packed, believed))
    squares = (packed.x.double() - problem.centre.unsqueeze(1))[0].square()
    if support.task == "regression":
        return squares.mean(0) * (1 / solution.noise[0].clamp(min=_LEAST)).sum()
    p = (usual_scale(solution.fit, packed, x.shape[1])[:, None, None] * solution.fit)[0].softmax(1)
    return ((p * (1 - p)).sum(1, keepdim=True) * squares).mean(0)


def task_distance(a: Tensor, b: Tensor) -> float:
    """1 - cosine of a / (a + b) and b / (a + b): 0 for tasks alike (paper, equation 2; scale-free once normalised)."""
    a, b = a / a.sum().clamp(min=_LEAST), b / b.sum().clamp(min=_LEAST)
    both = (a + b).clamp(min=_LEAST)
    return 1 - float(torch.nn.functional.cosine_similarity(a / both, b / both, dim=0))
