"""Proto-MAML as a plain loop over tasks (Triantafillou et al. 2020, section 3): MAML whose head starts at prototypes.

The flat twin of kshot/learners/protomaml.py; the tests compare the two. Run it: python examples/protomaml_loop.py
"""

import torch
from maml_loop import Weights, adapt, balanced_cross_entropy, network, start
from torch import Tensor


def head(embeddings: Tensor, labels: Tensor, n_way: int) -> Weights:
    """w_k = 2 c_k and b_k = -||c_k||^2: the logits are -||f(x) - c_k||^2 but for what all classes share."""
    prototypes = torch.stack([embeddings[labels == k].mean(0) for k in range(n_way)])
    return {"weight": 2 * prototypes, "bias": -prototypes.square().sum(1)}


def forward(weights: Weights, x: Tensor) -> Tensor:
    embedder = {name: weight for name, weight in weights.items() if name not in ("weight", "bias")}
    return network(embedder, x) @ weights["weight"].T + weights["bias"]


def rings(generator: torch.Generator, n: int, n_way: int = 3) -> tuple[Tensor, Tensor]:
    """n points of each of n_way rings about the origin of the plane, of random widths: nothing a line could part."""
    radii = 3 * torch.rand(n_way, generator=generator)
    labels = torch.arange(n_way).repeat(n)
    angle = 2 * torch.pi * torch.rand(len(labels), generator=generator)
    reach = radii[labels] + 0.1 * torch.randn(len(labels), generator=generator)
    return torch.stack([reach * angle.cos(), reach * angle.sin()], 1), labels


def main(iterations: int = 100) -> None:
    generator = torch.Generator().manual_seed(0)
    embedder = start(generator, widths=(2, 32, 32, 8))
    optimiser = torch.optim.Adam(embedder.values(), lr=5e-3)
    right: list[float] = []
    for iteration in range(1, iterations + 1):
        losses = []
        for _ in range(4):
            x, y = rings(generator, 10)
            moving = {name: weight.clone() for name, weight in embedder.items()}  # an inner step sees the head as given
            weights = moving | head(network(embedder, x[:15]), y[:15], 3)
            adapted = adapt(forward, weights, x[:15], y[:15], balanced_cross_entropy, steps=2, lr=0.05)
            logits = forward(adapted, x[15:])
            losses.append(torch.nn.functional.cross_entropy(logits, y[15:]))
            right.append(float((logits.argmax(1) == y[15:]).float().mean()))
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
        if iteration % 25 == 0:
            print(f"iteration {iteration}: query accuracy after two steps {sum(right) / len(right):.3f}")
            right.clear()


if __name__ == "__main__":
    main()
