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
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import (
    NO_OPTIONS,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_finite,
    check_supports,
    device_of,
)
from kshot.learners.batching import Packed, alike, embed, grouped, pack, pad
from kshot.learners.bayesian import has_prior, negative_log_density, posteriors, prior_head
from kshot.learners.calibration import class_gains, fit_scale, usual_scale
from kshot.learners.closed_form import (
    Problem,
    Solution,
    centred,
    fits_in_dual,
    fitted,
    left_out_by_class,
    predictive_variance,
    solve,
    weights,
)
from kshot.learners.losses import embedding_meta_loss, mean_over_tasks
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import accuracy_quality, can_leave_out, mse_quality

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
            weight = weights(problem, l2)
            outputs = z @ weight.transpose(1, 2)
            if support.task == "classification":
                outputs = outputs * head["log_logit_scale"].exp() * class_gains(fitted(problem, weight), support)
            else:
                outputs = outputs + problem.offset.unsqueeze(1)
            return outputs.to(query.dtype)

        device = device_of(encoder, head)
        if has_prior(head):
            density = partial(negative_log_density, head)
            return mean_over_tasks(encoder, device, supports, queries, targets, density)
        return embedding_meta_loss(encoder, device, supports, queries, targets, answer)

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        _check_targets(supports, checkpoint.head)
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed(checkpoint.encoder, [support.inputs for support in supports], device)
        keys = [
            (s.task, alike(len(x)), alike(s.n_outputs), fits_in_dual(*x.shape), len(x) <= _MOST_ROWS_REBALANCED)
            for s, x in zip(supports, features, strict=True)
        ]
        states: dict[int, State] = {}
        for group in grouped(keys):
            packed = pack([supports[i] for i in group], [features[i] for i in group])
            states.update(zip(group, _adapt(packed, checkpoint.head, options.l2), strict=True))
        return check_finite([states[i] for i in range(len(supports))])

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed(checkpoint.encoder, queries, device)
        keys = [
            (s.task, "noise" in s.tensors, "rows" in s.tensors, alike(len(s.tensors["weight"])), alike(len(x)))
            for s, x in zip(states, features, strict=True)
        ]
        outputs: dict[int, Output] = {}
        for group in grouped(keys):
            answers = _predict([states[i] for i in group], [features[i] for i in group])
            outputs.update(zip(group, answers, strict=True))
        return [outputs[i] for i in range(len(states))]


def _check_targets(supports: Sequence[Support], head: Head) -> None:
    for support in supports:
        if has_prior(head) and support.task == "regression" and support.n_outputs != len(head["log_noise"]):
            raise Invalid(f"this checkpoint predicts {len(head['log_noise'])} numbers", param="support.labels")


def _adapt(packed: Packed, head: Head, l2: float | None) -> list[State]:
    """The states of tasks of one kind, alike in size."""
    if has_prior(head) and packed.task == "regression":
        return posteriors(packed, head, l2)
    problem = centred(packed, evened=l2 is None and "log_l2" not in head)
    left_out = can_leave_out(packed.targets, packed.rows) if packed.task == "classification" else packed.rows
    penalty = _penalty(problem, packed, left_out, head, l2)
    solution = solve(problem, penalty)
    if packed.task == "regression":
        return _regressors(packed, problem, solution)
    errors = solution.left_out
    if packed.rows.sum(1).max() <= _MOST_ROWS_REBALANCED:
        errors = left_out_by_class(problem, packed.targets.double(), penalty)
    return _classifiers(packed, problem, solution, head, left_out, errors)


def _penalty(problem: Problem, packed: Packed, left_out: Tensor, head: Head, l2: float | None) -> Tensor:
    if l2 is not None:
        return problem.a.new_full((len(problem.a),), l2)
    if "log_l2" in head:
        return head["log_l2"].to(problem.a).exp().expand(len(problem.a))
    return choose_l2(problem, packed, left_out)


def _classifiers(
    packed: Packed, problem: Problem, solution: Solution, head: Head, left_out: Tensor, errors: Tensor
) -> list[State]:
    """``errors``: (B, N, C), by which the quality is judged; the scale goes by the cheaper ones it was tuned on."""
    fit = fitted(problem, solution.weight)
    gains = class_gains(fit, packed)
    scores = gains * (packed.targets - problem.offset.unsqueeze(1) - solution.left_out)
    if "log_logit_scale" in head:
        scales = head["log_logit_scale"].exp().expand(len(scores))
    else:
        usual = usual_scale(fit * gains, packed, packed.x.shape[2])
        scales = fit_scale(scores, packed, left_out, usual)
    scores = (gains * (packed.targets - problem.offset.unsqueeze(1) - errors)).cpu()
    classes, left_out = packed.targets.argmax(2).cpu(), left_out.cpu()
    states = []
    for i, (n, n_way) in enumerate(_sizes(packed)):
        quality = accuracy_quality(scores[i, :n, :n_way], classes[i, :n], left_out[i, :n])
        tensors = {
            "centre": problem.centre[i],
            "spread": problem.spread[i],
            "weight": solution.weight[i, :n_way] * gains[i, 0, :n_way, None],
            "scale": scales[i],
        }
        states.append(State("classification", n_way, _stored(tensors), quality))
    return states


def _regressors(packed: Packed, problem: Problem, solution: Solution) -> list[State]:
    residuals = solution.left_out.cpu()
    states = []
    for i, (n, n_targets) in enumerate(_sizes(packed)):
        tensors = {
            "centre": problem.centre[i],
            "spread": problem.spread[i],
            "weight": solution.weight[i, :n_targets],
            "offset": problem.offset[i, :n_targets],
        }
        if n > 1:
            rows = min(n, solution.factor.shape[1])
            tensors |= {"noise": solution.noise[i, :n_targets] * _doubt_of_noise(n), "rows": packed.rows[i].sum()}
            tensors |= {"factor": solution.factor[i, :rows], "isotropic": solution.isotropic[i]}
        quality = mse_quality(residuals[i, :n, :n_targets], targets=packed.targets[i, :n, :n_targets])
        states.append(State("regression", None, _stored(tensors), quality))
    return states


def _doubt_of_noise(n: int) -> float:
    """By how much a noise estimated from n rows widens the answer: the variance of Student's t (at n >= 4)."""
    freedom = max(n - 1, 3)
    return freedom / (freedom - 2)


def _sizes(packed: Packed) -> list[tuple[int, int]]:
    """(rows, outputs) of each task."""
    return list(zip(packed.rows.sum(1).tolist(), packed.outputs.sum(1).tolist(), strict=True))


def _stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}


def _predict(states: Sequence[State], features: Sequence[Tensor]) -> list[Output]:
    """The answers of models of one kind, alike in size, to their query embeddings (q, d)."""

    def stacked(name: str) -> Tensor:
        return pad([state.tensors[name] for state in states])

    z = (pad(features) - stacked("centre").unsqueeze(1)) / stacked("spread").unsqueeze(1)
    values = z @ stacked("weight").transpose(1, 2)
    sizes = [(len(x), len(state.tensors["weight"])) for x, state in zip(features, states, strict=True)]
    if states[0].task == "classification":
        logits = values * torch.stack([state.tensors["scale"] for state in states])[:, None, None]
        return [Output(logits=logits[i, :q, :c]) for i, (q, c) in enumerate(sizes)]
    values = values + stacked("offset").unsqueeze(1)
    if "noise" not in states[0].tensors:
        return [Output(values=values[i, :q, :c]) for i, (q, c) in enumerate(sizes)]
    isotropic = torch.stack([state.tensors["isotropic"] for state in states])
    shares = [1 / state.tensors["rows"] if "rows" in state.tensors else isotropic.new_zeros(()) for state in states]
    variance = predictive_variance(z, stacked("factor"), isotropic, torch.stack(shares), stacked("noise").unsqueeze(1))
    return [Output(values=values[i, :q, :c], std=variance[i, :q, :c].sqrt()) for i, (q, c) in enumerate(sizes)]
