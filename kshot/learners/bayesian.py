"""Bayesian linear regression on embeddings with a meta-learned prior and noise, the Bayesian form of ridge.

Harrison, Sharma, Pavone, "Meta-learning priors for efficient online Bayesian regression" (ALPaCA), 2018: y = W x + e,
e ~ N(0, noise), W ~ N(prior mean, noise / l2), trained by the log predictive density of the queries. In terms of a
kernel of features: Patacchiola et al., "Bayesian meta-learning for the few-shot setting via deep kernels", 2020.
"""

from math import pi

import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.learners.base import Head, State
from kshot.learners.batching import Packed
from kshot.learners.closed_form import Problem, about_prior, predictive_variance, solve, spread_of_fit
from kshot.learners.quality import mse_quality


def prior_head(width: int, n_targets: int | None) -> dict[str, Tensor]:
    """``log_noise`` (n_targets), the log variance of a target about the truth, and ``prior_mean`` (n_targets, d) of W.

    Raises Invalid where their shapes are not known beforehand.
    """
    if width == 0 or n_targets is None:
        raise Invalid("the Bayesian form of ridge is for labels that are numbers, on an encoder of fixed width")
    return {"log_noise": torch.zeros(n_targets), "prior_mean": torch.zeros(n_targets, width)}


def has_prior(head: Head) -> bool:
    """Whether these meta-learned tensors are those of the Bayesian form."""
    return "prior_mean" in head


def negative_log_density(head: Head, support: Packed, query: Packed) -> Tensor:
    """Minus the log predictive density of a target, its mean over queries and targets, summed over the tasks."""
    problem = about_prior(support, head["prior_mean"])
    penalty = _penalty(problem, head, None)
    solution = solve(problem, penalty)
    factor, isotropic = spread_of_fit(problem, solution, penalty)
    z, noise = query.x.double(), head["log_noise"].double().exp()
    mean = z @ (head["prior_mean"] + solution.weight).transpose(1, 2)
    variance = predictive_variance(z, factor, isotropic, problem.offset_share, noise)
    losses = 0.5 * ((2 * pi * variance).log() + (query.targets - mean).square() / variance).mean(2)
    return ((losses * query.rows).sum(1) / query.rows.sum(1)).sum().to(query.x.dtype)


def posteriors(packed: Packed, head: Head, l2: float | None) -> list[State]:
    """The states of regression tasks, as :class:`~kshot.learners.ridge.Ridge` predicts with them: without offset."""
    problem = about_prior(packed, head["prior_mean"])
    penalty = _penalty(problem, head, l2)
    solution = solve(problem, penalty)
    factor, isotropic = spread_of_fit(problem, solution, penalty)
    weight = (solution.weight + head["prior_mean"]).float()
    residuals = solution.left_out.cpu()
    states = []
    for i, n in enumerate(packed.rows.sum(1).tolist()):
        tensors = {
            "centre": problem.centre[i],
            "spread": problem.spread[i],
            "weight": weight[i],
            "offset": problem.offset[i],
            "noise": head["log_noise"].exp(),
            "factor": factor[i, : min(n, factor.shape[1])],
            "isotropic": isotropic[i],
        }
        stored = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        quality = mse_quality(residuals[i, :n], targets=packed.targets[i, :n])
        states.append(State("regression", None, stored, quality))
    return states


def _penalty(problem: Problem, head: Head, l2: float | None) -> Tensor:
    if l2 is not None:
        return problem.a.new_full((len(problem.a),), l2)
    return head["log_l2"].double().exp().expand(len(problem.a))
