"""Ridge regression as a head, one task at a time, leave-one-out by really leaving one out.

The flat twin of kshot/learners/ridge.py, closed_form.py and penalty.py; the tests compare the two.
Run it: python examples/ridge_loop.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """Answers ((x - centre) / spread) W + offset."""

    centre: Tensor
    spread: Tensor
    weight: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.centre) / self.spread @ self.weight + self.offset


def row_weights(labels: Tensor) -> Tensor:
    """Every class weighs the same, whatever its size; the weights sum to the number of rows."""
    sizes = torch.bincount(labels).double()
    return len(labels) / (len(sizes) * sizes[labels])


def even_spread(x: Tensor, w: Tensor) -> Tensor:
    """sqrt(variance + 2 * median variance) of each feature: columns on unlike scales become comparable."""
    centre = (w[:, None] * x).sum(0) / w.sum()
    variance = (w[:, None] * (x - centre).square()).sum(0) / w.sum()
    if not variance.any():
        return torch.ones_like(variance)
    return (variance + 2 * variance[variance > 0].median()).sqrt()


def fit(x: Tensor, y: Tensor, w: Tensor, l2: float, spread: Tensor) -> Head:
    """Minimise sum_i w_i ||y_i - f(x_i)||^2 + l2 ||W||^2 for features (n, d) and targets (n, c)."""
    centre, offset = ((w[:, None] * part).sum(0) / w.sum() for part in (x, y))
    z = (x - centre) / spread
    weight = torch.linalg.solve(
        z.T @ (w[:, None] * z) + l2 * torch.eye(z.shape[1]).double(), z.T @ (w[:, None] * (y - offset))
    )
    return Head(centre, spread, weight, offset)


def leave_one_out(x: Tensor, y: Tensor, w: Tensor, l2: float, spread: Tensor) -> Tensor:
    """Each row's answer (n, c) from a fit to the other rows. The fast path gets the same from a single fit."""
    answers = []
    for i in range(len(x)):
        others = torch.arange(len(x)) != i
        answers.append(fit(x[others], y[others], w[others], l2, spread)(x[i]))
    return torch.stack(answers)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    n_way, k_shot, n_query, width = 4, 5, 20, 12
    centres = torch.randn(n_way, width, generator=generator)
    labels, asked = torch.arange(n_way).repeat_interleave(k_shot), torch.arange(n_way).repeat_interleave(n_query)
    support = (centres[labels] + torch.randn(len(labels), width, generator=generator)).double()
    query = (centres[asked] + torch.randn(len(asked), width, generator=generator)).double()
    one_hot, w = torch.eye(n_way).double()[labels], row_weights(labels)
    spread = even_spread(support, w)
    for l2 in (0.1, 1.0, 10.0, 100.0):
        head = fit(support, one_hot, w, l2, spread)
        left_out = leave_one_out(support, one_hot, w, l2, spread)
        seen, unseen = (left_out.argmax(1) == labels).double().mean(), (head(query).argmax(1) == asked).double().mean()
        print(f"l2 {l2:6.1f}: leave-one-out accuracy {seen:.2f}, query accuracy {unseen:.2f}")


if __name__ == "__main__":
    main()
