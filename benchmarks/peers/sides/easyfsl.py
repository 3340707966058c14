"""easyfsl's prototypical networks: on vectors as they are, or a training step of the family's encoder."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import stand_ins  # noqa: F401 - before easyfsl
from benchmarks.peers.networks import Tensors, encoder, episodes, stacked
from benchmarks.peers.sides import Work
from benchmarks.peers.sides.plain import episode, gradients_of

from easyfsl.methods import PrototypicalNetworks  # isort: skip


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    if settings["work"] == "metric":
        return _training(problem, tensors)
    model, drawn = PrototypicalNetworks().eval(), episodes(tensors, tasks)

    @torch.no_grad()
    def answers() -> list[Tensor]:
        found = []
        for x, y, query, _ in drawn:
            model.process_support_set(x, y)
            found.append(model(query))
        return found

    return Work(answers, stacked)


def _training(problem: dict[str, Any], tensors: Tensors) -> Work:
    """Supports and queries go through the encoder one after the other, as easyfsl's training loop does."""
    model = PrototypicalNetworks(encoder(problem, tensors)).train()
    support, classes, query, asked = episode(tensors)

    def step() -> nn.Module:
        model.zero_grad()
        model.process_support_set(support, classes)
        nn.functional.cross_entropy(model(query), asked).backward()
        return model.backbone

    return Work(step, gradients_of)
