"""learn2learn's MAML: a clone for each task, one task after the other."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import stand_ins  # noqa: F401 - before learn2learn
from benchmarks.peers.networks import Network, Tensors, episodes, loss, network, stacked
from benchmarks.peers.sides import Work

from learn2learn.algorithms import MAML  # isort: skip


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    model, drawn = network(problem, tensors), episodes(tensors, tasks)
    # Whoever only adapts needs no graph of the steps: without this, learn2learn is slower.
    first_order = settings["work"] == "adapt" or settings["learner"] == "fomaml"
    maml = MAML(model, lr=settings["inner_lr"], first_order=first_order)

    def adapted(x: Tensor, y: Tensor) -> MAML:
        clone = maml.clone()
        for _ in range(settings["inner_steps"]):
            clone.adapt(loss(clone(x), y))
        return clone

    def answers() -> list[Tensor]:
        found = []
        for x, y, query, _ in drawn:
            clone = adapted(x, y)
            with torch.no_grad():
                found.append(clone(query))
        return found

    def gradients() -> Network:
        model.zero_grad()
        for x, y, query, asked in drawn:
            (loss(adapted(x, y)(query), asked) / len(drawn)).backward()
        return model

    return Work(answers, stacked) if settings["work"] == "adapt" else Work(gradients, by_name)


def by_name(model: Network) -> Tensors:
    """Gradients by kshot's names: of the head that of the one row from which all classes start."""
    found = {f"encoder.{name}": p.grad.clone() for name, p in model.encoder.named_parameters()}
    return found | {f"head.{name}": p.grad.sum(0, keepdim=True) for name, p in model.head.named_parameters()}
