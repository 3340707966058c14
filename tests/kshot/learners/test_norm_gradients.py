"""Norms of several tasks side by side: second derivatives equal finite differences, in float64."""

from typing import Any

import pytest

from kshot.contracts.checkpoints import TaskKind
from tests.kshot.learners.outer_problems import SHORTER, H, assert_equal_to_differences, problem

ALL_STEPS = {"first_order_share": 0.0, "done": 0.05}


@pytest.mark.parametrize(
    ("learner", "model", "options"),
    [
        ("maml", "group", {}),
        ("maml", "group-stride", {}),
        ("maml", "affine", {}),
        ("maml", "affine-stride", {"inner_steps": 1}),
        ("maml", "batch-stride", {}),
        ("maml", "task", {}),
        ("maml", "task-stride", {}),
        ("maml", "task", {"transductive": True}),
        ("maml", "resnet", {}),
        ("maml", "resnet-batch", {}),
        ("metasgd", "affine-stride", {}),
        ("metasgd", "group", {}),
        ("metasgd", "task", {}),
        ("anil", "task", {}),
        ("anil", "group", {}),
        ("anil", "affine", {}),
        ("protomaml", "task", {}),
        ("protomaml", "affine-stride", {}),
        ("protomaml", "group", {"inner_lr": 0.05}),
        ("protomaml", "batch", {"inner_lr": 0.05}),
        ("protomaml", "resnet", {"inner_lr": 0.05}),
        ("mamlpp", "task", ALL_STEPS),
        ("mamlpp", "task-stride", ALL_STEPS),
        ("mamlpp", "group", ALL_STEPS),
        ("mamlpp", "affine", ALL_STEPS),
        ("mamlpp", "batch", ALL_STEPS),
    ],
)
def test_norms_side_by_side(learner: str, model: str, options: dict[str, Any]) -> None:
    """Tasks of one size share a call: at least two of the three lie side by side."""
    near_a_kink = (learner, model) in (("mamlpp", "group"), ("protomaml", "resnet"))
    case = problem(learner, "classification", model, **{"inner_steps": 3, "inner_lr": 0.2} | options)
    assert_equal_to_differences(case, SHORTER if near_a_kink else H)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("learner", "options"), [("maml", {}), ("metasgd", {}), ("anil", {}), ("mamlpp", ALL_STEPS)], ids=str
)
def test_layer_norms_of_a_table(learner: str, options: dict[str, Any], task: TaskKind) -> None:
    case = problem(learner, task, "mlp-normed", inner_steps=3, inner_lr=0.2, **options)
    assert_equal_to_differences(case)


@pytest.mark.parametrize("learner", ["fomaml", "reptile"])
def test_first_order_keeps_no_graph_of_any_pass(learner: str) -> None:
    case = problem(learner, "classification", "affine", inner_steps=3, inner_lr=0.02)
    left, found = [case.loss().grad_fn], set()
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left += [following for following, _ in node.next_functions]
    assert not any("Convolution" in node.name() for node in found)
