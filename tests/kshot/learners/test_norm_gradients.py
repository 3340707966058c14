"""Convolutions of several tasks side by side: second derivatives equal finite differences, in float64."""

from typing import Any

import pytest

from tests.kshot.learners.outer_problems import assert_equal_to_differences, problem

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
        ("metasgd", "affine-stride", {}),
        ("anil", "task", {}),
        ("protomaml", "task", {}),
        ("protomaml", "affine-stride", {}),
        ("mamlpp", "task", ALL_STEPS),
    ],
)
def test_norms_side_by_side(learner: str, model: str, options: dict[str, Any]) -> None:
    """Tasks of one size share a call: at least two of the three lie side by side."""
    assert_equal_to_differences(problem(learner, "classification", model, inner_lr=0.2, **{"inner_steps": 3} | options))


@pytest.mark.parametrize(("learner", "passes"), [("fomaml", 1), ("reptile", 0)])
def test_first_order_keeps_no_graph_of_the_inner_steps(learner: str, passes: int) -> None:
    """Of four convolutions a pass, the outer graph holds those of the queries, in the call that all tasks share."""
    case = problem(learner, "classification", "affine", inner_steps=3, inner_lr=0.02)
    left, found = [case.loss().grad_fn], set()
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left += [following for following, _ in node.next_functions]
    assert sum("ConvolutionBackward" in node.name() for node in found) == 4 * passes
