"""A linear probe on frozen features, the plain baseline (Chen et al. 2019, section 3.2), fitted by L-BFGS.

The flat twin of kshot/learners/finetune.py; the tests compare the two. Run it: python examples/finetune_loop.py
"""

from collections.abc import Callable

import torch
from torch import Tensor


def fit(x: Tensor, y: Tensor, n_way: int | None) -> Callable[[Tensor], Tensor]:
    """Features (n, d) and classes (n,) of ``n_way``, or values (n, t) -> a function from features to answers."""
    sizes = torch.bincount(y) if n_way else torch.tensor([len(x)])
    share = 1 / (len(sizes) * sizes[y]) if n_way else torch.full((len(x),), 1 / len(x))
    centre = (share[:, None] * x).sum(0)
    scale = (share * (x - centre).square().sum(1)).sum().sqrt()
    z, l2 = (x - centre) / (scale if scale > 0 else 1.0), 0.1 / len(x)
    weight = torch.zeros(n_way or y.shape[1], x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        answers = z @ weight.T + bias
        if n_way:
            errors = torch.nn.functional.cross_entropy(answers, y, reduction="none")
        else:
            errors = (answers - y).square().sum(1) / 2
        value = (share * errors).sum() + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    w, b = weight.detach() / (scale if scale > 0 else 1.0), bias.detach()
    return lambda q: (q - centre) @ w.T + b


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    labels = torch.arange(5).repeat(40)
    x = centres[labels] + 1.5 * torch.randn(200, 20, generator=generator, dtype=torch.float64)
    for k_shot in (1, 5, 20):
        n = 5 * k_shot
        right = fit(x[:n], labels[:n], 5)(x[100:]).argmax(1) == labels[100:]
        print(f"{k_shot} examples per class: query accuracy {float(right.double().mean()):.2f}")


if __name__ == "__main__":
    main()
