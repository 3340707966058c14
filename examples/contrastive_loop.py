"""Metric learning by a margin as a plain loop: one pair, one query at a time; served by nearest neighbours.

The flat twin of kshot/learners/contrastive.py and neighbours.py; the tests compare them. (Its other way of serving, the
nearest class mean, is that of protonet_loop.py.) Run it: python examples/contrastive_loop.py
"""

from math import ceil

import torch
from torch import Tensor


def pair_loss(x: Tensor, labels: Tensor, margin: float, balance: float) -> Tensor:
    """Embeddings (n, d), labels (n,) -> the mean of d^2 / 2 over pairs alike, of max(0, margin - d)^2 / 2 over others.

    Hadsell, Chopra, LeCun 2006, eq. 4, each kind of pair averaged; ``balance`` weighs the second.
    """
    same, other = [torch.zeros(())], [torch.zeros(())]
    for i in range(len(x)):
        for j in range(i):
            distance = (x[i] - x[j]).norm()
            if labels[i] == labels[j]:
                same.append(distance**2 / 2)
            else:
                other.append((margin - distance).clamp(min=0) ** 2 / 2)
    return sum(same) / max(1, len(same) - 1) + balance * sum(other) / max(1, len(other) - 1)


def shares(x: Tensor, rows: Tensor, labels: Tensor, n_way: int, neighbours: int) -> Tensor:
    """What share of the neighbours of a query (d,) among the rows (n, d) is of each class, (n_way,).

    At most as many neighbours as an average class has rows. The border lies midway between the last neighbour and the
    next row; within one percent of it a row is a neighbour in part. A row counts 1 / the size of its class.
    """
    distances = (rows - x).square().sum(1)
    number, near = min(neighbours, ceil(len(rows) / n_way)), torch.ones(len(rows))
    if number < len(rows):
        border = distances.sort().values[number - 1 : number + 1].mean()
        width = max(0.01 * border, 1e-5 * distances.max())
        near = (0.5 + (border - distances) / (2 * width)).clamp(0, 1)
    found = torch.stack([near[labels == k].sum() / max(1, int((labels == k).sum())) for k in range(n_way)])
    return found / found.sum()


def smoothed(found: Tensor, smoothing: float) -> Tensor:
    """log p: every class gets ``smoothing`` of a whole vote more."""
    return ((found + smoothing) / (1 + smoothing * len(found))).log()


def leave_one_out(rows: Tensor, labels: Tensor, n_way: int, neighbours: int) -> list[Tensor | None]:
    """Each row's shares by the other rows; None where nothing of its class would be left."""
    answers: list[Tensor | None] = []
    for i in range(len(rows)):
        others = torch.arange(len(rows)) != i
        left = bool((labels[others] == labels[i]).any())
        answers.append(shares(rows[i], rows[others], labels[others], n_way, neighbours) if left else None)
    return answers


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    n_way, k_shot, n_query, width = 4, 4, 4, 16
    mixing = torch.randn(width, width, generator=generator)
    embed = torch.eye(width).requires_grad_()
    optimiser = torch.optim.Adam([embed], lr=0.05)
    for step in range(21):
        centres = torch.randn(n_way, 4, generator=generator) @ mixing[:4]
        labels, asked = torch.arange(n_way).repeat_interleave(k_shot), torch.arange(n_way).repeat_interleave(n_query)
        support = (centres[labels] + torch.randn(len(labels), width, generator=generator) @ mixing) @ embed
        query = (centres[asked] + torch.randn(len(asked), width, generator=generator) @ mixing) @ embed
        answers = torch.stack([shares(x, support, labels, n_way, neighbours=3) for x in query])
        loss = pair_loss(torch.cat([support, query]), torch.cat([labels, asked]), margin=10.0, balance=1.0)
        if step % 10 == 0:
            print(f"step {step}: loss {loss:.2f}, query accuracy {(answers.argmax(1) == asked).float().mean():.2f}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == "__main__":
    main()
