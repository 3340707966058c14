"""Small meta-batches in float64, and the slopes of their losses by gradient and by finite differences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kshot.contracts.checkpoints import ImageInput, TaskKind, VectorInput
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.conv4 import Conv4
from kshot.encoders.grouped import NORMS
from kshot.encoders.mlp import Mlp
from kshot.encoders.resnet12 import ResNet12
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.double_precision import in_double

VECTORS, PICTURES = VectorInput(width=3), ImageInput(height=16, width=16, channels=1)
MODELS: dict[str, Callable[[], Encoder]] = {
    "mlp": lambda: Mlp(VECTORS, hidden=(7, 6)),
    "mlp-normed": lambda: Mlp(VECTORS, hidden=(7, 6), layer_norm=True, standardised=True),
    **{norm: partial(Conv4, PICTURES, channels=8, norm=norm) for norm in NORMS},
    **{f"{norm}-stride": partial(Conv4, PICTURES, channels=8, norm=norm, pooling="stride") for norm in NORMS},
    "resnet": lambda: ResNet12(PICTURES, widths=(8, 8), norm="group"),
    "resnet-batch": lambda: ResNet12(PICTURES, widths=(8, 8)),
}
H = 1e-6  # the length of a step: short, for behind a ReLU or a maximum the adapted weights themselves may jump
SHORTER = 1e-7  # where one does within H of these weights


@dataclass(frozen=True)
class Problem:
    """A learner on a meta-batch of three tasks; ``leaves`` are all that meta-training moves."""

    learner: str
    options: Mapping[str, Any]
    encoder: Encoder
    head: dict[str, Tensor]
    supports: list[Support] = field(default_factory=list)
    queries: list[Inputs] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)

    @property
    def leaves(self) -> dict[str, Tensor]:
        return {f"encoder.{name}": parameter for name, parameter in self.encoder.named_parameters()} | self.head

    def loss(self) -> Tensor:
        batch = (self.supports, self.queries, self.targets)
        return LEARNERS[self.learner].meta_loss(self.encoder, self.head, *batch, self.options)

    def gradients(self) -> dict[str, Tensor]:
        found = torch.autograd.grad(self.loss(), list(self.leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(self.leaves, found, strict=True))


def problem(learner: str, task: TaskKind, model: str = "mlp", **options: Any) -> Problem:
    """Random weights, none of them where learning would start: biases, scales and rates are moved off their places."""
    torch.manual_seed(0)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    encoder = in_double(MODELS[model]())
    head = LEARNERS[learner].init_head(encoder, task, 2, generator, options)
    head = {name: tensor.double().requires_grad_() for name, tensor in head.items()}
    found = Problem(learner, options, encoder, head)
    with torch.no_grad():
        for tensor in found.leaves.values():
            tensor.add_(0.1 * tensor.abs().mean().clamp(min=0.05) * torch.randn(tensor.shape, generator=generator))
    for size in (3, 2, 3):
        inputs, targets, n_way = values(rng, size) if task == "regression" else classes(rng, size, model)
        half = len(inputs) // 2
        found.supports.append(Support(task, inputs[:half], targets[:half], n_way))
        found.queries.append(inputs[half:])
        found.targets.append(targets[half:])
    return found


def values(rng: np.random.Generator, size: int) -> tuple[Inputs, Tensor, None]:
    x = rng.normal(size=(4 * size, 3)).astype(np.float32)
    y = np.sin(x @ rng.normal(size=(3, 2))) + 0.1 * rng.normal(size=(4 * size, 2))
    return x, torch.from_numpy(y), None


def classes(rng: np.random.Generator, n_way: int, model: str) -> tuple[Inputs, Tensor, int]:
    """The last class has one example more, so that balancing matters."""
    labels = np.tile(np.append(np.arange(n_way), [*range(n_way), n_way - 1]), 2)
    if model.startswith("mlp"):
        x = rng.normal(size=(n_way, 3))[labels] + 0.5 * rng.normal(size=(len(labels), 3))
        return x.astype(np.float32), torch.from_numpy(labels), n_way
    centres = rng.uniform(0, 255, (n_way, 16, 16, 1))
    noisy = centres[labels] + rng.normal(0, 40, (len(labels), 16, 16, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8), torch.from_numpy(labels), n_way


def direction(like: Tensor) -> Tensor:
    drawn = torch.randn_like(like)
    return drawn / drawn.norm()


@torch.no_grad()
def difference(loss: Callable[[], Tensor], leaf: Tensor, along: Tensor, h: float = H) -> float:
    """The slope of the loss along a direction of length 1 of one leaf, by central differences."""
    start, ends = leaf.clone(), []
    for step in (h, -h):
        leaf.copy_(start + step * along)
        ends.append(float(loss()))
    leaf.copy_(start)
    return (ends[0] - ends[1]) / (2 * h)


def slopes(case: Problem, h: float = H) -> dict[str, tuple[float, float]]:
    """For each leaf, by its gradient and by finite differences, the slope along a random direction."""
    torch.manual_seed(1)
    found = {}
    for name, gradient in case.gradients().items():
        along = direction(gradient)
        found[name] = (float((gradient * along).sum()), difference(case.loss, case.leaves[name], along, h))
    return found


def assert_equal_to_differences(case: Problem, h: float = H) -> None:
    """A difference over ``h`` has a relative error of its own, of round-off in the loss: some 1e-15 / h."""
    for name, (slope, expected) in slopes(case, h).items():
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-15 / h), name
