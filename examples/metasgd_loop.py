"""Meta-SGD as a plain loop over tasks: every weight has a meta-learned inner rate of its own (Li et al. 2017, eq. 3).

The flat twin of kshot/learners/metasgd.py; the tests compare the two. Run it: python examples/metasgd_loop.py
"""

import torch
from maml_loop import Forward, Loss, Weights, network, sinusoid, start
from torch import Tensor


def adapt(
    forward: Forward, weights: Weights, rates: Weights, x: Tensor, y: Tensor, loss: Loss, *, steps: int = 1
) -> Weights:
    """theta <- theta - alpha * gradient, elementwise; the graph of each step is kept."""
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(forward(weights, x), y), list(weights.values()), create_graph=True)
        weights = {name: w - rates[name] * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return weights


def main(iterations: int = 300) -> None:
    generator = torch.Generator().manual_seed(0)
    mse = torch.nn.functional.mse_loss
    weights = start(generator)
    rates = {name: torch.full_like(w, 0.01).requires_grad_() for name, w in weights.items()}
    optimiser = torch.optim.Adam([*weights.values(), *rates.values()], lr=2e-3)
    recent: list[float] = []
    for iteration in range(1, iterations + 1):
        losses = []
        for _ in range(8):
            x, y = sinusoid(generator, 20)
            losses.append(mse(network(adapt(network, weights, rates, x[:10], y[:10], mse), x[10:]), y[10:]))
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
