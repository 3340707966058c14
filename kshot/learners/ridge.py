"""A closed-form ridge head: Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019.

For regression this is also the posterior mean of Bayesian linear regression (Bishop, PRML 2006, eqs. 3.53 and 3.58),
whose variance (eq. 3.59) gives the std. The noise is estimated from each support, or with the prior
meta-learned (:mod:`kshot.learners.bayesian`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import (
    NO_OPTIONS,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_numbers,
    check_supports,
    device_of,
)
from kshot.learners.batching import Packed, alike, cut, embed_all, grouped, in_groups, pack, pad, unpadded
from kshot.learners.bayesian import has_prior, negative_log_density, posteriors, prior_head
from kshot.learners.calibration import class_gains, fit_scale, gains_and_scale
from kshot.learners.closed_form import (
    Problem,
    centred,
    fits_in_dual,
    left_out_by_class,
    predictive_variance,
    solve,
    spread_of_fit,
)
from kshot.learners.losses import embedding_meta_loss, mean_over_tasks
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import accuracy_qualities, mse_quality

_FIRST_LOGIT_SCALE = 10.0
_MOST_ROWS_REBALANCED = 512  # beyond, a class hardly notices that one of its rows weighs nothing


class Ridge(Learner):
    """W = X' (X X' + l2 I)^-1 Y on centred embeddings X and one-hot or real targets Y.

    Meta-learned: ``log_l2`` and, for classes, ``log_logit_scale`` (R2-D2's bias cancels in a softmax, and the offset
    comes from centring). A checkpoint without them gets features on an even scale, and both numbers by exact
    leave-one-out. With the caller's ``l2`` the features are taken as they are.
    The quality is an exact leave-one-out given penalty and scale: where the support chose them it did so on all rows,
    by the same errors, so of few rows with many columns the figure is too good.
    For classes two things are added to the paper: rows are weighted so that every class weighs the same whatever its
    size, and each class's scores are divided by the length of its direction
    (:func:`~kshot.learners.calibration.class_gains`).
    Manifest option ``bayesian``, for values: meta-learned are also ``log_noise`` (n_targets) and ``prior_mean``
    (n_targets, d), the offset is none, since it would have a flat prior, and the meta-loss is minus the log density.
    State: ``centre`` and ``spread`` (d), ``weight`` (C, d); ``scale`` () for classes; ``offset`` (C) for values, and
    where the noise is known or two rows tell it, ``noise`` (C), ``rows`` (), ``factor`` (r, d), ``isotropic`` ().
    """

    name = "ridge"
    tasks: frozenset[TaskKind] = frozenset({"classification", "regression"})
    options = frozenset({"l2"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        head = {"log_l2": torch.zeros(())}
        if task == "classification":
            head["log_logit_scale"] = torch.tensor(_FIRST_LOGIT_SCALE).log()
        if options.get("bayesian"):
            head |= prior_head(encoder.out_dim, n_targets if task == "regression" else None)
        return head

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        def answer(support: Packed, query: Tensor) -> Tensor:
            problem = centred(support, evened=False)
            l2 = head["log_l2"].double().exp().expand(len(query))
            z = query.double() - problem.centre.unsqueeze(1)
            solution = solve(problem, l2)
            outputs = z @ solution.weight.mT
            if support.task == "classification":
                outputs = outputs * head["log_logit_scale"].exp() * class_gains(solution.fit, support)
            else:
                outputs = outputs + problem.offset.unsqueeze(1)
            return outputs.to(query.dtype)

        device = device_of(encoder, head)
        if has_prior(head):
            density = partial(negative_log_density, head)
            return mean_over_tasks(encoder, device, supports, queries, targets, density)
        return embedding_meta_loss(encoder, device, supports, queries, targets, answer)

    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        return self._states(checkpoint, supports, options, measured=True)

    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        return self._states(checkpoint, supports, options, measured=False)

    @torch.no_grad()
    def _states(
        self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions, *, measured: bool
    ) -> list[State]:
        check_supports(self, supports)
        _check_targets(supports, checkpoint.head)
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed_all(checkpoint.encoder, [support.inputs for support in supports], device)
        width = features.flat.shape[1]
        keys = [
            (s.task, alike(n), alike(s.n_outputs), fits_in_dual(n, width), n <= _MOST_ROWS_REBALANCED)
            for s, n in zip(supports, features.lengths, strict=True)
        ]

        def adapted(group: list[int]) -> list[State]:
            packed = pack([supports[i] for i in group], features.padded(group))
            return _adapt(packed, checkpoint.head, options.l2, measured)

        return in_groups(grouped(keys), adapted)

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed_all(checkpoint.encoder, queries, device)
        keys = [
            (s.task, "noise" in s.tensors, "rows" in s.tensors, alike(s.tensors["weight"].shape[0]), alike(n))
            for s, n in zip(states, features.lengths, strict=True)
        ]

        def answers(group: list[int]) -> list[Output]:
            return _predict([states[i] for i in group], features.padded(group), [features.lengths[i] for i in group])

        return in_groups(grouped(keys), answers)


def _check_targets(supports: Sequence[Support], head: Head) -> None:
    for support in supports if has_prior(head) else ():
        if support.task == "regression" and support.n_outputs != len(head["log_noise"]):
            raise Invalid(f"this checkpoint predicts {len(head['log_noise'])} numbers", param="support.labels")


def _adapt(packed: Packed, head: Head, l2: float | None, measured: bool) -> list[State]:
    """The states of tasks of one kind, alike in size; ``measured``: with their quality."""
    if has_prior(head) and packed.task == "regression":
        return posteriors(packed, head, l2)
    problem = centred(packed, evened=l2 is None and "log_l2" not in head)
    if packed.task == "regression":
        return _regressors(packed, problem, _penalty(problem, packed, packed.rows, head, l2))
    left_out = packed.same_class > 1.5
    penalty = _penalty(problem, packed, left_out, head, l2)
    return _classifiers(packed, problem, penalty, head, left_out, measured)


def _penalty(problem: Problem, packed: Packed, left_out: Tensor, head: Head, l2: float | None) -> Tensor:
    if l2 is not None:
        return problem.a.new_full((len(problem.a),), l2)
    if "log_l2" in head:
        return head["log_l2"].to(problem.a).exp().expand(len(problem.a))
    return choose_l2(problem, packed, left_out)


def _classifiers(
    packed: Packed, problem: Problem, penalty: Tensor, head: Head, left_out: Tensor, measured: bool
) -> list[State]:
    """The scale is fitted to the errors that the penalty was chosen by, the quality is that of adapting again."""
    solution = solve(problem, penalty)
    fit = solution.fit
    if "log_logit_scale" in head:
        gains, scale = class_gains(fit, packed), head["log_logit_scale"].exp().expand(len(penalty))
    else:
        own, every = (fit * packed.targets).sum(1), None if packed.even else fit.sum(1)
        class_factors, usual = gains_and_scale(own, every, packed, packed.x.shape[2])
        gains = class_factors.unsqueeze(1)
        scale = fit_scale(gains * (problem.labels - solution.left_out), packed, left_out, usual)
    qualities: Sequence[Quality | None] = [None] * len(penalty)
    if measured:
        rebalanced = packed.x.shape[1] <= _MOST_ROWS_REBALANCED
        errors = left_out_by_class(problem, packed.targets, penalty) if rebalanced else solution.left_out
        qualities = accuracy_qualities(gains * (problem.labels - errors), packed.targets, left_out, packed.outputs)
    stacked = {
        "centre": problem.centre,
        "spread": problem.spread,
        "weight": solution.weight * gains.mT,
        "scale": scale,
    }
    ways = packed.widths
    tensors = _own_tensors(stacked, {"weight": ways})
    return [State("classification", *own) for own in zip(ways, tensors, qualities, strict=True)]


def _regressors(packed: Packed, problem: Problem, penalty: Tensor) -> list[State]:
    solution = solve(problem, penalty)
    sizes, widths = packed.lengths, packed.widths
    stacked = {
        "centre": problem.centre,
        "spread": problem.spread,
        "weight": solution.weight,
        "offset": problem.offset,
    }
    rows = {"weight": widths, "offset": widths}
    if max(sizes) > 1:  # tasks of one row are a group of their own
        doubt = torch.tensor([_doubt_of_noise(n) for n in sizes], dtype=penalty.dtype, device=penalty.device)
        factor, isotropic = spread_of_fit(problem, solution, penalty)
        stacked |= {"noise": solution.noise * doubt.unsqueeze(1), "rows": packed.rows.sum(1)}
        stacked |= {"factor": factor, "isotropic": isotropic}
        rows |= {"noise": widths, "factor": [min(n, factor.shape[1]) for n in sizes]}
    residuals = cut(solution.left_out.cpu(), [sizes, widths])
    targets = cut(packed.targets, [sizes, widths])
    qualities = [mse_quality(e, targets=y) for e, y in zip(residuals, targets, strict=True)]
    tensors = _own_tensors(stacked, rows)
    return [State("regression", None, *own) for own in zip(tensors, qualities, strict=True)]


def _own_tensors(stacked: Mapping[str, Tensor], rows: Mapping[str, Sequence[int]]) -> list[dict[str, Tensor]]:
    """In single precision, task by task. Raises AdaptationFailed where a number is not finite."""
    numbers = {name: tensor.float() for name, tensor in stacked.items()}
    check_numbers(numbers.values())
    return unpadded(numbers, rows)


def _doubt_of_noise(n: int) -> float:
    """By how much a noise estimated from n rows widens the answer: the variance of Student's t (at n >= 4)."""
    freedom = max(n - 1, 3)
    return freedom / (freedom - 2)


def _predict(states: Sequence[State], x: Tensor, lengths: Sequence[int]) -> list[Output]:
    """The answers of models of one kind, alike in size, to their query embeddings (B, q, d), so many of each."""

    def stacked(name: str) -> Tensor:
        return pad([state.tensors[name] for state in states])

    z, spread = x - stacked("centre").unsqueeze(1), stacked("spread").unsqueeze(1)
    values = torch.bmm(z, (stacked("weight") / spread).mT)
    sizes = [lengths, [state.tensors["weight"].shape[0] for state in states]]
    if states[0].task == "classification":
        logits = values * stacked("scale").view(-1, 1, 1)
        return [Output(logits=own) for own in cut(logits, sizes)]
    means = cut(values + stacked("offset").unsqueeze(1), sizes)
    if "noise" not in states[0].tensors:
        return [Output(values=own) for own in means]
    isotropic = stacked("isotropic")
    share = 1 / stacked("rows") if "rows" in states[0].tensors else torch.zeros_like(isotropic)
    variance = predictive_variance(z / spread, stacked("factor"), isotropic, share, stacked("noise").unsqueeze(1))
    return [Output(values=v, std=std) for v, std in zip(means, cut(variance.sqrt(), sizes), strict=True)]
