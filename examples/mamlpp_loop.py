"""MAML++ as a plain loop over tasks (Antoniou et al. 2019, section 4), on sinusoids.

Each step has rates of its own, one for each weight tensor, and scales and shifts of its own behind each layer. The
outer loss begins with the queries' loss after every step and ends with that after the last; no second derivatives at
first. The flat twin of kshot/learners/mamlpp.py; the tests compare the two. Run it: python examples/mamlpp_loop.py
"""

from collections.abc import Callable, Sequence

import torch
from maml_loop import Loss, Weights, sinusoid, start
from torch import Tensor

Forward = Callable[[Weights, Weights, Tensor], Tensor]
"""(weights that move, norms of one step, inputs) -> outputs."""

STEPS = 3


def adapt(
    forward: Forward,
    weights: Weights,
    rates: Sequence[Weights],
    norms: Sequence[Weights],
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    first_order: bool = False,
) -> list[Weights]:
    """The weights after each step. ``rates`` and ``norms``: one entry for each step; norms do not move."""
    path = []
    for own_rates, own_norms in zip(rates, norms, strict=True):
        value = loss(forward(weights, own_norms, x), y)
        gradients = torch.autograd.grad(value, list(weights.values()), create_graph=not first_order)
        weights = {name: w - own_rates[name] * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        path.append(weights)
    return path


def shares(done: float, steps: int = STEPS, part: float = 0.2) -> list[float]:
    """How much the loss after each step counts once ``done`` of the training is past."""
    if done >= part:
        return [0.0] * (steps - 1) + [1.0]
    others = max((1 - done / part) / steps, 0.01)
    return [others] * (steps - 1) + [1 - (steps - 1) * others]


def network(weights: Weights, norms: Weights, x: Tensor) -> Tensor:
    """Each layer's rows normalised by their own statistics, then this step's scale and shift."""
    for i in range(2):
        x = x @ weights[f"w{i}"].T + weights[f"b{i}"]
        x = (x - x.mean(0)) * (x.var(0, unbiased=False) + 1e-5).rsqrt()
        x = (x * norms[f"scale{i}"] + norms[f"shift{i}"]).relu()
    return x @ weights["w2"].T + weights["b2"]


def main(iterations: int = 150) -> None:
    generator = torch.Generator().manual_seed(0)
    mse = torch.nn.functional.mse_loss
    weights = start(generator)
    rates = [{name: torch.tensor(0.03).requires_grad_() for name in weights} for _ in range(STEPS)]
    norms = [{f"scale{i}": torch.ones(40) for i in range(2)} | {f"shift{i}": torch.zeros(40) for i in range(2)}] * STEPS
    norms = [{name: tensor.clone().requires_grad_() for name, tensor in own.items()} for own in norms]
    leaves = [*weights.values(), *(t for own in (*rates, *norms) for t in own.values())]
    optimiser = torch.optim.Adam(leaves, lr=5e-3)
    recent: list[float] = []
    for iteration in range(iterations):
        done, losses = iteration / iterations, []
        for _ in range(4):
            x, y = sinusoid(generator, 20)
            path = adapt(network, weights, rates, norms, x[:10], y[:10], mse, first_order=done < 0.3)
            after = [mse(network(w, own, x[10:]), y[10:]) for w, own in zip(path, norms, strict=True)]
            losses.append(sum(share * loss for share, loss in zip(shares(done), after, strict=True)))
            recent.append(float(after[-1].detach()))
        optimiser.zero_grad()
        torch.stack([torch.as_tensor(loss) for loss in losses]).mean().backward()
        optimiser.step()
        if (iteration + 1) % 50 == 0:
            print(f"iteration {iteration + 1}: query error after {STEPS} steps {sum(recent) / len(recent):.2f}")
            recent.clear()


if __name__ == "__main__":
    main()
