"""Outer gradients against central finite differences, and against derivatives worked out by hand, in float64."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import Support
from kshot.learners.batching import pack
from kshot.learners.inner_loop import InnerLoop, as_they_are, linear_forward
from kshot.learners.paths import paths
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.double_precision import checkpoint_with
from tests.kshot.learners.outer_problems import VECTORS, Problem, assert_equal_to_differences, problem, slopes

FIXED_BIAS = {"bias": torch.zeros((), dtype=torch.float64)}
"""Rates under which a bias stays."""

TRAINED: list[tuple[str, dict[str, Any]]] = [
    ("maml", {"inner_steps": 1, "inner_lr": 0.3}),
    ("maml", {"inner_steps": 3, "inner_lr": 0.2}),
    ("anil", {"inner_steps": 3, "inner_lr": 0.2}),
    ("metasgd", {"inner_steps": 1, "inner_lr": 0.3}),
    ("metasgd", {"inner_steps": 3, "inner_lr": 0.2}),
    ("mamlpp", {"inner_steps": 3, "inner_lr": 0.2}),
    ("mamlpp", {"inner_steps": 3, "inner_lr": 0.2, "first_order_share": 0.0, "done": 0.05}),
    ("protomaml", {"inner_steps": 1, "inner_lr": 0.1}),
    ("protomaml", {"inner_steps": 3, "inner_lr": 0.1}),
    ("protonet", {}),
    ("contrastive", {"margin": 3.0}),
    ("ridge", {}),
    ("ridge", {"bayesian": True}),
    ("matching", {"distance": "l2"}),
    ("matching", {"distance": "cosine", "full_context": True}),
    ("matching", {"distance": "dot"}),
]


def ways_to_train() -> Iterator[ParameterSet]:
    for learner, options in TRAINED:
        for task in sorted(LEARNERS[learner].tasks):
            if not (options.get("bayesian") and task == "classification"):
                yield pytest.param(learner, task, options, id="-".join([learner, task, *map(str, options.values())]))


@pytest.mark.parametrize(("learner", "task", "options"), list(ways_to_train()))
def test_equals_finite_differences(learner: str, task: TaskKind, options: dict[str, Any]) -> None:
    assert_equal_to_differences(problem(learner, task, **options))


def answers(encoder: Encoder, weights: Mapping[str, Tensor], x: Inputs) -> Tensor:
    own = {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}
    features = functional_call(encoder, own, (encoder.prepare(x, torch.device("cpu")),))
    return features @ weights["weight"].T + weights["bias"]


def test_first_order_is_the_query_gradient_at_the_adapted_weights() -> None:
    case = problem("fomaml", "regression", inner_steps=3, inner_lr=0.2)
    checkpoint = checkpoint_with(case.encoder, case.head, "fomaml", case.options, VECTORS)
    states = LEARNERS["fomaml"].adapt(checkpoint, case.supports, LearnerOptions())
    expected = {name: torch.zeros_like(leaf) for name, leaf in case.leaves.items()}
    for state, x, y in zip(states, case.queries, case.targets, strict=True):
        adapted = {name: tensor.requires_grad_() for name, tensor in state.tensors.items()}
        loss = F.mse_loss(answers(case.encoder, adapted, x), y)
        for name, gradient in zip(adapted, torch.autograd.grad(loss, list(adapted.values())), strict=True):
            expected[name] += gradient / len(states)
    for name, gradient in case.gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_first_order_is_not_the_derivative(task: TaskKind) -> None:
    found = slopes(problem("fomaml", task, inner_steps=3, inner_lr=0.2))
    slope, expected = (sum(pair[i] for pair in found.values()) for i in (0, 1))
    assert slope != pytest.approx(expected, rel=1e-2)


def adapted_by_adam(case: Problem, i: int) -> dict[str, Tensor]:
    """Where torch's own Adam takes the weights of one task, on all its rows at each step."""
    support, x = case.supports[i], np.concatenate([case.supports[i].inputs, case.queries[i]])
    y, ways = torch.cat([support.targets, case.targets[i]]), support.n_way or 0
    moving = {name: leaf.detach().clone().requires_grad_() for name, leaf in case.leaves.items()}
    if ways:
        moving |= {n: moving[n].detach().repeat_interleave(ways, 0).requires_grad_() for n in ("weight", "bias")}
    adam = torch.optim.Adam(moving.values(), lr=0.02, betas=(0.0, 0.999), eps=1e-5)
    for _ in range(case.options["inner_steps"]):
        adam.zero_grad()
        outputs = answers(case.encoder, moving, x)
        (F.cross_entropy(outputs, y) if ways else F.mse_loss(outputs, y)).backward()
        adam.step()
    return {n: w.detach().mean(0, keepdim=True) if ways and n in case.head else w.detach() for n, w in moving.items()}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_reptile_pulls_towards_the_mean_of_the_adapted_weights(task: TaskKind) -> None:
    """Batches as large as the pool of rows, so that no draw decides; the row of all classes goes where rows go."""
    case = problem("reptile", task, inner_steps=4, inner_lr=0.02, inner_batch=100)
    ends = [adapted_by_adam(case, i) for i in range(3)]
    for name, gradient in case.gradients().items():
        mean = torch.stack([end[name] for end in ends]).mean(0)
        torch.testing.assert_close(gradient, case.leaves[name].detach() - mean, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("counts", [(5, 5), (7, 3)], ids=["balanced", "imbalanced"])
def test_a_linear_binary_classifier_by_hand(counts: tuple[int, int]) -> None:
    """Logistic regression, one inner step: the derivative worked out on paper.

    Two classes with rows u and v score by theta = v - u alone. With sigma_i = 1 / (1 + exp(-x_i theta)) and row weights
    w_i (1 / n where classes are equally large, else 1 / (2 n_class)), the support loss has the gradient
    g = X' W (sigma - y) in v and -g in u, and in theta the Hessian X' W S X with S = diag(sigma (1 - sigma)). So
    theta' = theta - 2 a g, d theta' / d theta = 1 - 2 a X' W S X, which is symmetric, and by the chain rule
    dL / d theta = (1 - 2 a X' W S X) X_q' (sigma_q(theta') - y_q) / n_q.
    """
    rng, a = np.random.default_rng(0), 0.7
    y = torch.from_numpy(np.repeat([0, 1], counts))
    x, xq = (torch.from_numpy(rng.normal(size=(10, 4))) for _ in range(2))
    yq = torch.from_numpy(rng.integers(0, 2, 10))
    theta = torch.from_numpy(rng.normal(size=4)).requires_grad_()
    weight, bias = torch.stack([torch.zeros_like(theta), theta]).unsqueeze(0), torch.zeros(1, 2, dtype=torch.float64)

    packed = pack([Support("classification", x.numpy(), y, 2)], [x])
    loop = InnerLoop(1, a, rates=(FIXED_BIAS,))
    (adapted,) = paths(as_they_are, {"weight": weight, "bias": bias}, packed, loop, [0])
    (found,) = torch.autograd.grad(F.cross_entropy(linear_forward(adapted, xq.unsqueeze(0))[0], yq), theta)

    sigma = torch.sigmoid(x @ theta).detach()
    w = 0.5 / torch.tensor(counts, dtype=torch.float64)[y]
    by_hand = theta.detach() - 2 * a * x.T @ (w * (sigma - y))
    moved = adapted["weight"][0, 1] - adapted["weight"][0, 0]
    torch.testing.assert_close(moved.detach(), by_hand, rtol=1e-12, atol=1e-12)
    outer = xq.T @ (torch.sigmoid(xq @ by_hand) - yq) / len(yq)
    jacobian = torch.eye(4, dtype=torch.float64) - 2 * a * x.T @ torch.diag(w * sigma * (1 - sigma)) @ x
    torch.testing.assert_close(found, jacobian @ outer, rtol=1e-12, atol=1e-12)


def test_for_classes_the_first_step_moves_the_head_alone() -> None:
    """All classes start from one row, so it sends nothing back to the encoder: one step is one step of ANIL.

    Kao, Chiu, Chen, "MAML is a noisy contrastive learner in classification", ICLR 2022, find this of a head of zeros.
    """
    moving, still = (problem(name, "classification", inner_steps=1, inner_lr=0.3) for name in ("maml", "anil"))
    ours, expected = moving.gradients(), still.gradients()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_for_values_the_first_step_moves_all() -> None:
    moving, still = (problem(name, "regression", inner_steps=1, inner_lr=0.3) for name in ("maml", "anil"))
    assert not torch.allclose(moving.gradients()["weight"], still.gradients()["weight"], rtol=1e-3)


@pytest.mark.parametrize("learner", ["maml", "anil"])
def test_what_all_classes_share_is_not_learned(learner: str) -> None:
    """A softmax does not see it, however many steps follow; its start is as good as any."""
    gradients = problem(learner, "classification", inner_steps=3, inner_lr=0.2).gradients()
    for name in ("weight", "bias"):
        torch.testing.assert_close(gradients[name], torch.zeros_like(gradients[name]), rtol=0, atol=1e-12)
