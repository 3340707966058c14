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
    """A divisor for each feature: columns on unlike scales become comparable, like ones stay as they are."""
    centre = (w[:, None] * x).sum(0) / w.sum()
    variance = (w[:, None] * (x - centre).square()).sum(0) / w.sum()
    if not variance.any():
        return torch.ones_like(variance)
    median, mean = variance[variance > 0].median(), variance[variance > 0].mean()
    return (variance + 4 * median * (1 + (20 * median / mean) ** 2)).sqrt()


def fit(x: Tensor, y: Tensor, w: Tensor, l2: float, spread: Tensor) -> Head:
    """Minimise sum_i w_i ||y_i - f(x_i)||^2 + l2 ||W||^2 for features (n, d) and targets (n, c)."""
    centre, offset = ((w[:, None] * part).sum(0) / w.sum() for part in (x, y))
    z = (x - centre) / spread
    weight = torch.linalg.solve(
        z.T @ (w[:, None] * z) + l2 * torch.eye(z.shape[1]).double(), z.T @ (w[:, None] * (y - offset))
    )
    return Head(centre, spread, weight, offset)


def posterior(x: Tensor, y: Tensor, prior_mean: Tensor, l2: float, noise: float) -> tuple[Tensor, Tensor]:
    """Bayesian linear regression: mean (d, c) and covariance (d, d) of W ~ N(prior_mean, noise / l2) after (x, y).

    Bishop, PRML 2006, eqs. 3.50 and 3.51, with S_0 = noise / l2 and beta = 1 / noise; each target by itself.
    A query z is then answered by N(z W, noise + z S z') (eqs. 3.58 and 3.59).
    """
    precision = l2 / noise * torch.eye(x.shape[1]).to(x) + x.T @ x / noise
    covariance = torch.linalg.inv(precision)
    return covariance @ (l2 / noise * prior_mean + x.T @ y / noise), covariance


def class_gains(fit: Tensor, labels: Tensor) -> Tensor:
    """As 1 / sqrt(a class's mean score for its own rows): no class wins by its distance from the rest alone.

    ``fit``: centred scores (n, n_way) of the support rows. All 1 where every class has a single row.
    """
    own = torch.stack([fit[labels == k, k].mean() for k in range(fit.shape[1])])
    own = own.clamp(min=1e-3)
    return (own.mean() / own).sqrt() if torch.bincount(labels).max() > 1 else torch.ones_like(own)


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
        gains = class_gains(head(support) - head.offset, labels)
        left_out = gains * (leave_one_out(support, one_hot, w, l2, spread) - head.offset)
        answers = gains * (head(query) - head.offset)
        seen, unseen = ((a.argmax(1) == b).double().mean() for a, b in ((left_out, labels), (answers, asked)))
        print(f"l2 {l2:6.1f}: leave-one-out accuracy {seen:.2f}, query accuracy {unseen:.2f}")


if __name__ == "__main__":
    main()
