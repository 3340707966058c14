"""TorchOpt's inner loop: differentiable SGD in place, the network put back after each task."""

from typing import Any

import torch
import torchopt
from torch import Tensor

from benchmarks.peers.networks import Tensors, episodes, loss, network, stacked
from benchmarks.peers.sides import Work


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    model, drawn = network(problem, tensors), episodes(tensors, tasks)
    optimiser = torchopt.MetaSGD(model, lr=settings["inner_lr"])
    start, first = (torchopt.extract_state_dict(part, by="reference") for part in (model, optimiser))

    def answers() -> list[Tensor]:
        found = []
        for x, y, query, _ in drawn:
            for _ in range(settings["inner_steps"]):
                optimiser.step(loss(model(x), y))
            with torch.no_grad():
                found.append(model(query))
            torchopt.recover_state_dict(model, start)
            torchopt.recover_state_dict(optimiser, first)
        return found

    return Work(answers, stacked)
