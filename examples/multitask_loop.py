"""Several targets on one shared encoder: trained together, rows may lack targets; then a new target from a few rows.

The flat twin of kshot/training/multitask.py and kshot/learners/multitask.py; the tests compare the two.
Run it: python examples/multitask_loop.py
"""

import ridge_loop
import torch
from torch import Tensor, nn


def rows_that_have(target: Tensor) -> tuple[Tensor, Tensor]:
    """Of a column (n,) with NaN where a row lacks the target: which rows have it, and their values."""
    rows = torch.tensor([i for i in range(len(target)) if not target[i].isnan()])
    return rows, target[rows]


def loss(answers: Tensor, target: Tensor, n_way: int | None) -> Tensor:
    """Cross-entropy of logits (n, n_way), or squared error of values (n, 1), over the rows that have the target."""
    rows, y = rows_that_have(target)
    if len(rows) == 0:
        return 0.0 * answers.sum()
    if n_way is None:
        return (answers[rows, 0] - y).square().mean()
    return nn.functional.cross_entropy(answers[rows], y.long())


def uncertainty_weighted(losses: list[Tensor], s: Tensor) -> Tensor:
    """Kendall, Gal, Cipolla (CVPR 2018) with s_i = log sigma_i^2: the sum of L_i / (2 e^{s_i}) + s_i / 2."""
    return sum((own / (2 * s_i.exp()) + s_i / 2 for own, s_i in zip(losses, s, strict=True)), torch.zeros(()))


def without_conflicts(gradients: list[Tensor], order: list[list[int]]) -> Tensor:
    """Yu et al., "Gradient surgery for multi-task learning" (PCGrad), NeurIPS 2020, algorithm 1; the sum over tasks.

    ``gradients``: one flat vector per task. ``order[i]``: in which order task i meets the others.
    """
    surgically = []
    for i, own in enumerate(gradients):
        g = own.clone()
        for j in order[i]:
            if g @ gradients[j] < 0:
                g = g - (g @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
        surgically.append(g)
    return torch.stack(surgically).sum(0)


def new_head(x: Tensor, target: Tensor, l2: float) -> ridge_loop.Head:
    """A head for a target never trained on: ridge in closed form on the rows that have it. ``x``: embeddings (n, d)."""
    rows, y = rows_that_have(target)
    ones = torch.ones(len(rows)).double()
    return ridge_loop.fit(x[rows].double(), y[:, None].double(), ones, l2, torch.ones(x.shape[1]).double())


def main() -> None:
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(10, 8), nn.Tanh())  # what all targets depend on
    x, seen, unseen = torch.randn(600, 10), slice(0, 400), slice(400, 600)
    with torch.no_grad():
        truth = hidden(x) @ torch.randn(8, 4)
    kinds = [2, None, None]
    targets = torch.stack([(truth[:, 0] > 0).float(), truth[:, 1], truth[:, 2]], 1)
    targets[torch.rand(targets.shape) < 0.5] = torch.nan  # half of the entries are missing

    encoder = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(32, n_way or 1) for n_way in kinds)
    s = nn.Parameter(torch.full((3,), -0.5))
    optimiser = torch.optim.Adam([*encoder.parameters(), *heads.parameters(), s], lr=3e-3)
    for step in range(301):
        shared = encoder(x)
        losses = [loss(head(shared[seen]), targets[seen, i], kinds[i]) for i, head in enumerate(heads)]
        optimiser.zero_grad()
        uncertainty_weighted(losses, s).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 100 == 0:
            held_out = [loss(head(shared[unseen]), targets[unseen, i], kinds[i]).item() for i, head in enumerate(heads)]
            print(f"step {step:3}: held-out losses " + ", ".join(f"{value:.3f}" for value in held_out))
    with torch.no_grad():
        shared = encoder(x)
    few = truth[:, 3].clone()
    few[20:] = torch.nan
    head = new_head(shared, few, l2=1.0)
    error = (head(shared[unseen].double())[:, 0] - truth[unseen, 3]).square().mean() / truth[unseen, 3].var()
    print(f"a new target from 20 rows: {error:.2f} of its variance is left")


if __name__ == "__main__":
    main()
