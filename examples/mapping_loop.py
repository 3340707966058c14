"""Knowledge transfer by mapping: a frozen source's features, a small residual network after it, episodes and hints.

The flat twin of kshot/encoders/mapped.py and kshot/training/mapping.py; the tests compare the two.
Run it: python examples/mapping_loop.py
"""

import torch
from torch import Tensor, nn


class Map(nn.Module):
    """g(z) = z + W2 relu(W1 z + b1); W2 starts at 0, so that g starts as the identity."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.outer(nn.functional.relu(self.inner(z)))


def centred(features: Tensor, centre: Tensor) -> Tensor:
    """Unit vectors, less the mean unit vector of the target's training data, to length 1 again."""
    return nn.functional.normalize(nn.functional.normalize(features, dim=1) - centre, dim=1)


def episodic_loss(z: Tensor, log_scale: Tensor) -> Tensor:
    """Cross-entropy of prototypes, over all the ways to take one example of each class as support.

    z: embeddings (n_way, per_class, d) of one draw.
    """
    n_way, per_class, _ = z.shape
    losses = []
    for fold in range(per_class):
        prototypes = z[:, fold]
        for other in range(per_class):
            if other != fold:
                logits = -log_scale.exp() * torch.cdist(z[:, other], prototypes).square()
                losses.append(nn.functional.cross_entropy(logits, torch.arange(n_way)))
    return torch.stack(losses).mean()


def hint_loss(seen: Tensor, hints: Tensor) -> Tensor:
    """How far a linear reading of the student's features is from what the teacher sees (Romero et al. 2015, eq. 3)."""
    return (seen - hints).square().mean()


def accuracy(z: Tensor) -> float:
    """One-shot: the nearest first example of z (n_way, per_class, d)."""
    answers = torch.cdist(z[:, 1:].flatten(0, 1), z[:, 0]).argmin(1)
    return float((answers == torch.arange(len(z)).repeat_interleave(z.shape[1] - 1)).double().mean())


def main() -> None:
    """Classes differ in a few directions of what the source sees; most of what it sees is beside the point here."""
    torch.manual_seed(0)
    n_way, per_class, width, matters = 30, 6, 32, 6

    def draw() -> Tensor:
        means = torch.cat([torch.randn(n_way, 1, matters), torch.zeros(n_way, 1, width - matters)], 2)
        noise = torch.cat([0.4 * torch.randn(n_way, per_class, matters), torch.randn(n_way, per_class, 26)], 2)
        return means + noise

    train, test = draw(), draw()
    centre = nn.functional.normalize(train.flatten(0, 1), dim=1).mean(0)
    hints = train.flatten(0, 1)[:, :matters]  # a teacher that looks the right way, if through a glass
    z, asked = (centred(x.flatten(0, 1), centre) for x in (train, test))
    g, regressor, log_scale = Map(width, 64), nn.Linear(width, matters), nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.Adam([*g.parameters(), *regressor.parameters(), log_scale], 3e-3)
    print(f"identity mapping: accuracy {accuracy(asked.view(n_way, per_class, -1)):.3f}")
    for step in range(201):
        mapped = g(z)
        loss = episodic_loss(mapped.view(n_way, per_class, -1), log_scale) + hint_loss(regressor(mapped), hints)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            with torch.no_grad():
                found = accuracy(g(asked).view(n_way, per_class, -1))
            print(f"step {step:3}: loss {loss.item():.3f}, accuracy on classes never seen {found:.3f}")


if __name__ == "__main__":
    main()
