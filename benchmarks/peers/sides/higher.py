"""higher's inner loop: a functional copy of the network for each task, one after the other."""

from typing import Any

import higher
import torch
from torch import Tensor

from benchmarks.peers.networks import Tensors, episodes, loss, network, stacked
from benchmarks.peers.sides import Work


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    model, drawn = network(problem, tensors), episodes(tensors, tasks)
    optimiser = torch.optim.SGD(model.parameters(), lr=settings["inner_lr"])

    def answers() -> list[Tensor]:
        found = []
        for x, y, query, _ in drawn:
            with higher.innerloop_ctx(model, optimiser, track_higher_grads=False) as (copy, steps):
                for _ in range(settings["inner_steps"]):
                    steps.step(loss(copy(x), y))
                with torch.no_grad():
                    found.append(copy(query))
        return found

    return Work(answers, stacked)
