"""MAML as a plain loop over tasks, with autograd and nothing else: the sinusoid of Finn et al. (2017), section 5.1.

The flat twin of kshot/learners/inner_loop.py; the tests compare the two. Run it: python examples/maml_loop.py
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Forward = Callable[[Weights, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over classes of the mean over each class's rows."""
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return torch.stack([losses[labels == k].mean() for k in labels.unique()]).mean()


def adapt(
    forward: Forward,
    weights: Weights,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    first_order: bool = False,
) -> Weights:
    """Gradient descent on one support set. Second order: the graph of each step is kept."""
    for _ in range(steps):
        gradients = torch.autograd.grad(
            loss(forward(weights, x), y), list(weights.values()), create_graph=not first_order
        )
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return weights


def sinusoid(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """n points of one sinusoid: amplitude 0.1 to 5, phase 0 to pi, x in [-5, 5]."""
    amplitude, phase = 0.1 + 4.9 * torch.rand((), generator=generator), torch.pi * torch.rand((), generator=generator)
    x = 10 * torch.rand(n, 1, generator=generator) - 5
    return x, amplitude * torch.sin(x + phase)


def start(generator: torch.Generator, widths: Sequence[int] = (1, 40, 40, 1)) -> Weights:
    weights: Weights = {}
    for i, (a, b) in enumerate(pairwise(widths)):
        weights[f"w{i}"] = (torch.randn(b, a, generator=generator) * (2 / a) ** 0.5).requires_grad_()
        weights[f"b{i}"] = torch.zeros(b, requires_grad=True)
    return weights


def network(weights: Weights, x: Tensor) -> Tensor:
    last = len(weights) // 2 - 1
    for i in range(last + 1):
        x = x @ weights[f"w{i}"].T + weights[f"b{i}"]
        x = x if i == last else x.relu()
    return x


def main(iterations: int = 300) -> None:
    generator = torch.Generator().manual_seed(0)
    mse = torch.nn.functional.mse_loss
    weights = start(generator)
    optimiser = torch.optim.Adam(weights.values(), lr=2e-3)
    recent: list[float] = []
    for iteration in range(1, iterations + 1):
        losses = []
        for _ in range(8):
            x, y = sinusoid(generator, 20)
            adapted = adapt(network, weights, x[:10], y[:10], mse, steps=1, lr=0.01)
            losses.append(mse(network(adapted, x[10:]), y[10:]))
        optimiser.zero_grad()
        outer = torch.stack(losses).mean()
        outer.backward()
        optimiser.step()
        recent.append(outer.item())
        if iteration % 100 == 0:
            print(f"iteration {iteration}: query error after one step {sum(recent) / len(recent):.2f}")
            recent.clear()


if __name__ == "__main__":
    main()
