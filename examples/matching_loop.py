"""Matching networks as a plain loop: one task, one query, one row of the support at a time.

The flat twin of kshot/learners/matching.py, attention.py and full_context.py; the tests compare them.
Run it: python examples/matching_loop.py
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def similarity(distance: str, x: Tensor, y: Tensor) -> Tensor:
    """How alike two embeddings (d,) are."""
    if distance == "cosine":
        return x @ y / (x.norm() * y.norm())
    return x @ y if distance == "dot" else -(x - y).square().sum()


def log_probabilities(scores: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Scores (n,) of the support's rows for one query -> log p (n_way,): a class has the mean of its rows' exp(score).

    For classes of one size that is Vinyals et al. 2016, eq. 1, where the softmax over the rows is added up by class.
    """
    means = [torch.logsumexp(scores[labels == k], 0) - (labels == k).sum().log() for k in range(n_way)]
    return torch.stack(means).log_softmax(0)


def logits(queries: Tensor, rows: Tensor, labels: Tensor, n_way: int, distance: str, sharpness: float) -> Tensor:
    """log p (q, n_way) of queries f (q, d), given the support's rows g (n, d) with labels (n,)."""
    answers = []
    for x in queries:
        scores = torch.stack([sharpness * similarity(distance, x, row) for row in rows])
        answers.append(log_probabilities(scores, labels, n_way))
    return torch.stack(answers)


def leave_one_out(rows: Tensor, labels: Tensor, n_way: int, distance: str, sharpness: float) -> list[Tensor | None]:
    """Each row's logits from the other rows; None where nothing of its class would be left."""
    answers: list[Tensor | None] = []
    for i in range(len(rows)):
        others = torch.arange(len(rows)) != i
        if (labels[others] == labels[i]).sum() == 0:
            answers.append(None)
            continue
        answers.append(logits(rows[i : i + 1], rows[others], labels[others], n_way, distance, sharpness)[0])
    return answers


def lstm(weights: Mapping[str, Tensor], name: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One LSTM step from state h and cell c."""
    gates = weights[f"{name}_in"] @ x + weights[f"{name}_hidden"] @ h + weights[f"{name}_bias"]
    entering, kept, shown, fresh = gates.chunk(4)
    c = kept.sigmoid() * c + entering.sigmoid() * fresh.tanh()
    return shown.sigmoid() * c.tanh(), c


def support_in_context(weights: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """g(x_i) = forward state + backward state + x_i (appendix A.2), rows read in the order of a projection of them."""
    order = (rows.double() @ torch.arange(1.0, rows.shape[1] + 1).double().cos()).argsort()
    g = rows.clone()
    for name, sequence in (("forward", order), ("backward", order.flip(0))):
        h = c = torch.zeros(rows.shape[1])
        for i in sequence:
            h, c = lstm(weights, name, rows[i], h, c)
            g[i] += h
    return g


def query_in_context(weights: Mapping[str, Tensor], queries: Tensor, g: Tensor, steps: int) -> Tensor:
    """f(x) = h_K (eqs. 3 to 6): an LSTM that sees the query, its own state and what that attends to in g."""
    answers = []
    for x in queries:
        h = c = torch.zeros_like(x)
        for _ in range(steps):
            read = (g @ h).softmax(0) @ g
            h, c = lstm(weights, "attention", x, torch.cat([h, read]), c)
            h = h + x
        answers.append(h)
    return torch.stack(answers)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    n_way, k_shot, n_query, width = 5, 3, 10, 16
    centres = 0.7 * torch.randn(n_way, width, generator=generator)
    labels, asked = torch.arange(n_way).repeat_interleave(k_shot), torch.arange(n_way).repeat_interleave(n_query)
    support = centres[labels] + torch.randn(len(labels), width, generator=generator)
    query = centres[asked] + torch.randn(len(asked), width, generator=generator)
    for distance, sharpness in (("l2", 0.3), ("cosine", 5.0), ("dot", 0.3)):
        answer = logits(query, support, labels, n_way, distance, sharpness)
        left_out = leave_one_out(support, labels, n_way, distance, sharpness)
        right = [int(row.argmax()) == int(k) for row, k in zip(left_out, labels, strict=True) if row is not None]
        accuracy = (answer.argmax(1) == asked).float().mean()
        print(f"{distance:6}: query accuracy {accuracy:.2f}, leave-one-out accuracy {sum(right) / len(right):.2f}")


if __name__ == "__main__":
    main()
