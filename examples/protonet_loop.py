"""Prototypical networks as a plain loop: one task, one class, one query at a time.

The flat twin of kshot/learners/protonet.py; the tests compare the two. Run it: python examples/protonet_loop.py
"""

import torch
from torch import Tensor


def prototypes(features: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Support embeddings (n, d) with labels (n,) -> the mean embedding of each class (n_way, d)."""
    return torch.stack([features[labels == k].mean(0) for k in range(n_way)])


def logits(means: Tensor, queries: Tensor, scale: float = 1.0) -> Tensor:
    """-scale * ||f(x) - c_k||^2, (q, n_way)."""
    return torch.stack([torch.stack([-scale * (x - mean).square().sum() for mean in means]) for x in queries])


def leave_one_out(features: Tensor, labels: Tensor, n_way: int, scale: float = 1.0) -> list[Tensor | None]:
    """Each row's logits from the other rows; None where nothing of its class would be left."""
    answers: list[Tensor | None] = []
    for i in range(len(features)):
        others = torch.arange(len(features)) != i
        if (labels[others] == labels[i]).sum() == 0:
            answers.append(None)
            continue
        answers.append(logits(prototypes(features[others], labels[others], n_way), features[i : i + 1], scale)[0])
    return answers


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    n_way, k_shot, n_query, width = 5, 3, 10, 16
    centres = 0.7 * torch.randn(n_way, width, generator=generator)
    labels, asked = torch.arange(n_way).repeat_interleave(k_shot), torch.arange(n_way).repeat_interleave(n_query)
    support = centres[labels] + torch.randn(len(labels), width, generator=generator)
    query = centres[asked] + torch.randn(len(asked), width, generator=generator)

    answer = logits(prototypes(support, labels, n_way), query)
    left_out = leave_one_out(support, labels, n_way)
    right = [int(row.argmax()) == int(label) for row, label in zip(left_out, labels, strict=True) if row is not None]
    print(f"{n_way}-way {k_shot}-shot, query accuracy {(answer.argmax(1) == asked).float().mean():.2f}")
    print(f"leave-one-out accuracy on the support alone {sum(right) / len(right):.2f}")


if __name__ == "__main__":
    main()
