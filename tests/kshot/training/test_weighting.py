"""Losses and gradients of several tasks as one step, against numbers worked out by hand and the loop of examples/."""

import itertools
import math

import pytest
import torch

from kshot.episodes.tables import Target
from kshot.training.multitask import masked_loss
from kshot.training.weighting import SURGICAL, conflict_weights, cosines, gramian, uncertainty_loss
from tests.kshot.learners.references import multitask_loop

NAN = float("nan")
NUMBER, BINARY, TERNARY = Target("a", "regression"), Target("b", "classification", 2), Target("c", "classification", 3)


def test_squared_error_of_the_rows_that_have_the_target() -> None:
    outputs = torch.tensor([[1.0], [5.0], [2.0], [0.0]])
    assert masked_loss(NUMBER, outputs, torch.tensor([0.0, NAN, 4.0, NAN])).item() == pytest.approx((1 + 4) / 2)


def test_cross_entropy_of_the_rows_that_have_the_target() -> None:
    outputs = torch.tensor([[0.0, math.log(3)], [9.0, 9.0], [math.log(4), 0.0]])
    # p = (1/4, 3/4) and (4/5, 1/5): binary cross-entropy of the difference of the logits
    loss = masked_loss(BINARY, outputs, torch.tensor([1.0, NAN, 1.0]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(5)) / 2, rel=1e-6)
    logits = (outputs[:, 1] - outputs[:, 0])[[0, 2]]
    assert loss.item() == pytest.approx(
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones(2)).item(), rel=1e-6
    )
    three = masked_loss(TERNARY, torch.tensor([[0.0, 0.0, math.log(2)]]), torch.tensor([2.0]))
    assert three.item() == pytest.approx(math.log(2), rel=1e-6)


def test_a_target_that_no_row_has_costs_nothing_and_moves_nothing() -> None:
    outputs = torch.randn(3, 2, requires_grad=True)
    loss = masked_loss(BINARY, outputs, torch.full((3,), NAN))
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None and not outputs.grad.any()


def test_missing_rows_get_no_gradient() -> None:
    outputs = torch.randn(4, 1, requires_grad=True)
    masked_loss(NUMBER, outputs, torch.tensor([1.0, NAN, 2.0, NAN])).backward()
    assert outputs.grad is not None
    torch.testing.assert_close(
        outputs.grad[:, 0], (outputs[:, 0] - torch.tensor([1, 0, 2, 0])).detach() * torch.tensor([1, 0, 1, 0])
    )


def test_masked_losses_equal_the_loop() -> None:
    outputs, values = torch.randn(20, 3), torch.randint(0, 3, (20,)).float()
    values[::3] = NAN
    torch.testing.assert_close(masked_loss(TERNARY, outputs, values), multitask_loop.loss(outputs, values, 3))
    torch.testing.assert_close(masked_loss(NUMBER, outputs, values), multitask_loop.loss(outputs, values, None))


def test_uncertainty_weighting_is_its_formula() -> None:
    losses, s = torch.tensor([2.0, 3.0]), torch.tensor([-0.5, 1.0], requires_grad=True)
    value = uncertainty_loss(losses, s)
    by_hand = 2 / (2 * math.exp(-0.5)) - 0.25 + 3 / (2 * math.e) + 0.5
    assert value.item() == pytest.approx(by_hand, rel=1e-6)
    torch.testing.assert_close(value, multitask_loop.uncertainty_weighted(list(losses), s))
    value.backward()  # d/ds = 1/2 - L / (2 e^s): at rest where e^s = L
    assert s.grad is not None
    assert s.grad.tolist() == pytest.approx([0.5 - math.exp(0.5), 0.5 - 1.5 / math.e], rel=1e-5)
    at_rest = losses.log().requires_grad_()
    uncertainty_loss(losses, at_rest).backward()
    assert at_rest.grad is not None
    assert at_rest.grad.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_products_and_cosines_of_gradients() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    unused = torch.zeros(3, requires_grad=True)
    losses = torch.stack([w[0] * 3 + w[1] * 4, -w[0], 0.0 * w.sum()])
    products = gramian(losses, [w, unused])
    assert products.tolist() == [[25, -3, 0], [-3, 1, 0], [0, 0, 0]]
    found = cosines(products)
    assert found[0, 1].item() == pytest.approx(-0.6)
    assert bool(found[2].isnan().all())  # no gradient, no angle


def test_pcgrad_is_the_projection_by_hand() -> None:
    """g1 = (1, 0), g2 = (-1, 1): each loses its part along the other, (1/2, 1/2) and (0, 1); half of their sum."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights("pcgrad", gradients @ gradients.T)
    assert (weights @ gradients).tolist() == pytest.approx([0.25, 0.75])
    both = multitask_loop.without_conflicts(list(gradients), [[1], [0]])
    torch.testing.assert_close(weights @ gradients, both / 2)


def test_pcgrad_of_three_tasks_is_the_loop_in_some_order() -> None:
    torch.manual_seed(1)
    gradients = torch.randn(3, 2)
    assert bool((gradients @ gradients.T < 0).any())
    step = conflict_weights("pcgrad", gradients @ gradients.T) @ gradients
    orders = itertools.product([[1, 2], [2, 1]], [[0, 2], [2, 0]], [[0, 1], [1, 0]])
    steps = [multitask_loop.without_conflicts(list(gradients), list(order)) / 3 for order in orders]
    assert min(float((step - expected).abs().max()) for expected in steps) < 1e-5


def test_upgrad_is_the_mean_of_projections_and_hurts_no_task() -> None:
    """For two tasks it projects as PCGrad does; for more its step opposes no gradient, which PCGrad's may."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights("upgrad", gradients @ gradients.T)
    assert (weights @ gradients).tolist() == pytest.approx([0.25, 0.75], abs=1e-3)
    for seed in range(10):
        torch.manual_seed(seed)
        many = torch.randn(5, 8)
        step = conflict_weights("upgrad", many @ many.T) @ many
        assert float((many @ step).min()) > -1e-3


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", *sorted(SURGICAL)])
def test_without_a_conflict_it_is_the_mean(weighting) -> None:
    gradients = torch.tensor([[1.0, 0.5], [0.2, 1.0], [1.0, 1.0]])
    assert conflict_weights(weighting, gradients @ gradients.T).tolist() == pytest.approx([1 / 3] * 3)
