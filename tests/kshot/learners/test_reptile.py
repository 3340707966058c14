"""Reptile's outer gradient is where the tasks did not go, and what is drawn at random is drawn in training alone."""

import numpy as np
import pytest
import torch

from kshot.contracts.checkpoints import TaskKind
from tests.kshot.learners.outer_problems import Problem, problem
from tests.kshot.learners.references import inner_loss, maml_model, reptile_loop

OPTIONS = {"inner_steps": 4, "inner_lr": 0.01, "inner_batch": 100}  # more than all rows: each step sees every one


def mean_end(case: Problem) -> dict[str, torch.Tensor]:
    """The mean over tasks of what the flat loop gives on support and queries together."""
    ends = []
    for support, query, targets in zip(case.supports, case.queries, case.targets, strict=True):
        forward, weights = maml_model(case.encoder, case.head, support, moves_encoder=True)
        assert isinstance(support.inputs, np.ndarray)
        x = torch.cat([case.encoder.prepare(rows, torch.device("cpu")) for rows in (support.inputs, query)])
        y = torch.cat([support.targets, targets])
        loss = torch.nn.functional.cross_entropy if support.n_way else inner_loss(support)
        end = reptile_loop.adapt(forward, weights, [(x, y)] * 4, loss, lr=0.01)
        if support.n_way:
            end |= {name: end[name].mean(0, keepdim=True) for name in ("weight", "bias")}
        ends.append(end)
    return {name: torch.stack([end[name] for end in ends]).mean(0) for name in ends[0]}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_outer_gradient(task: TaskKind) -> None:
    case = problem("reptile", task, **OPTIONS)
    ends = mean_end(case)
    for name, gradient in case.gradients().items():
        torch.testing.assert_close(gradient, case.leaves[name] - ends[name], rtol=1e-7, atol=1e-9, msg=name)


def test_plain_descent_at_rate_eps_is_reptile() -> None:
    case = problem("reptile", "regression", **OPTIONS)
    ends, before = mean_end(case), {name: leaf.detach().clone() for name, leaf in case.leaves.items()}
    case.loss().backward()
    torch.optim.SGD(case.leaves.values(), 0.3).step()
    for name, leaf in case.leaves.items():
        torch.testing.assert_close(leaf.detach(), before[name] + 0.3 * (ends[name] - before[name]), msg=name)


def test_batches_are_drawn_by_torchs_generator() -> None:
    case = problem("reptile", "regression", inner_steps=3, inner_lr=0.01, inner_batch=3)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return case.loss().item()

    assert loss(0) == loss(0) != loss(1)
