"""The written-out derivatives, first and second, against finite differences and against torch's own, in float64."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from kshot.encoders.derivatives import Shape, convolution, norm_by_rows

EPSILON = 1e-5


def drawn(*size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(size))).requires_grad_()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
def test_convolution(stride: int, groups: int, biased: bool) -> None:
    shape: Shape = ([stride, stride], [1, 1], groups)
    inputs = [drawn(3, 4, 5, 5), drawn(6, 4 // groups, 3, 3)] + [drawn(6)] * biased

    def convolved(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        return convolution(x, kernel, bias, shape)

    assert gradcheck(convolved, inputs)
    assert gradgradcheck(convolved, inputs)


def test_convolution_of_pictures_that_need_no_derivative() -> None:
    shape: Shape = ([1, 1], [1, 1], 2)
    x, kernel = drawn(3, 4, 5, 5).detach(), drawn(6, 2, 3, 3)
    assert gradgradcheck(lambda weights: convolution(x, weights, None, shape), (kernel,))


def test_norm() -> None:
    """Also of a channel whose scale is 0."""
    x, weight, bias = drawn(3, 4, 2, 3), drawn(4), drawn(4)
    with torch.no_grad():
        weight[1] = 0

    def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return norm_by_rows(x, weight, bias, EPSILON)

    assert gradcheck(normed, (x, weight, bias))
    assert gradgradcheck(normed, (x, weight, bias))


def test_a_step_of_descent_has_the_derivative_that_torch_finds() -> None:
    x, kernel, weight, bias = drawn(5, 4, 6, 6), drawn(8, 2, 3, 3), drawn(8), drawn(8)

    def moved(written_out: bool) -> list[Tensor]:
        maps = (
            convolution(x, kernel, None, ([2, 2], [1, 1], 2))
            if written_out
            else torch.conv2d(x, kernel, None, 2, 1, 1, 2)
        )
        own = (
            norm_by_rows(maps, weight, bias, EPSILON)
            if written_out
            else torch.batch_norm(maps, weight, bias, None, None, True, 0.0, EPSILON, False)
        )
        loss = own.relu().square().sum()
        leaves = [x, kernel, weight, bias]
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        return [*first, *torch.autograd.grad([g.sin().sum() for g in first], leaves)]

    for ours, expected in zip(moved(True), moved(False), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
