"""Reptile as a plain loop over tasks (Nichol et al. 2018, algorithm 1), on sinusoids.

The flat twin of kshot/learners/reptile.py; the tests compare the two. Run it: python examples/reptile_loop.py
"""

from collections.abc import Sequence

import torch
from maml_loop import Forward, Loss, Weights, network, sinusoid, start
from torch import Tensor


def adapt(
    forward: Forward, weights: Weights, batches: Sequence[tuple[Tensor, Tensor]], loss: Loss, *, lr: float
) -> Weights:
    """One step of Adam with beta1 = 0 on each batch; with a larger epsilon than usual, which drowns round-off."""
    own = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    optimiser = torch.optim.Adam(own.values(), lr, betas=(0.0, 0.999), eps=1e-5)
    for x, y in batches:
        optimiser.zero_grad()
        loss(forward(own, x), y).backward()
        optimiser.step()
    return {name: weight.detach() for name, weight in own.items()}


def main(iterations: int = 200, eps: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(0)
    mse = torch.nn.functional.mse_loss
    weights = start(generator)
    recent: list[float] = []
    for iteration in range(1, iterations + 1):
        x, y = sinusoid(generator, 30)
        adapted = adapt(network, weights, [(x[:10], y[:10])] * 5, mse, lr=0.02)
        with torch.no_grad():
            recent.append(float(mse(network(adapted, x[20:]), y[20:])))
        order = torch.randperm(20, generator=generator)
        adapted = adapt(network, weights, [(x[rows], y[rows]) for rows in [*order.split(10)] * 3], mse, lr=0.02)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(eps * (1 - iteration / iterations) * (adapted[name] - weight))
        if iteration % 50 == 0:
            print(f"iteration {iteration}: query error after five steps {sum(recent) / len(recent):.2f}")
            recent.clear()


if __name__ == "__main__":
    main()
