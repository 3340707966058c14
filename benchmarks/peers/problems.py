"""The tasks and the starting weights of a family, as tensors by name: the same for every contestant.

``support_x``, ``support_y``, ``query_x``, ``query_y``: stacked over the tasks. ``encoder.*`` and ``head.*``: where all
of them start, by kshot's names.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.models import encoder_of
from kshot.contracts.checkpoints import TaskKind
from kshot.learners.registry import get_learner

Tensors = dict[str, Tensor]
WAYS, QUERIES, SIDE = 5, 15, 28


def make(problem: dict[str, Any], settings: dict[str, Any]) -> Tensors:
    """The tensors of ``problem``, the same each time."""
    generator = torch.Generator().manual_seed(0)
    tasks = {"pictures": pictures, "sinusoids": sinusoids, "vectors": vectors, "draw": draw}
    return tasks[problem["kind"]](problem, generator) | start(problem, settings, generator)


def start(problem: dict[str, Any], settings: dict[str, Any], generator: torch.Generator) -> Tensors:
    """Fresh weights, as kshot's meta-training would begin with."""
    torch.manual_seed(0)
    encoder = encoder_of(problem)
    task: TaskKind = "regression" if problem["kind"] == "sinusoids" else "classification"
    head = get_learner(settings["learner"]).init_head(encoder, task, 1, generator)
    weights = {
        f"encoder.{name}": parameter.detach().clone(memory_format=torch.contiguous_format)
        for name, parameter in encoder.named_parameters()
    }
    return weights | {f"head.{name}": tensor for name, tensor in head.items()}


def pictures(problem: dict[str, Any], generator: torch.Generator) -> Tensors:
    """Coarse strokes under noise, uint8: ``shots`` pictures a class to learn from, 15 to name."""
    tasks, shots = problem["tasks"], problem["shots"]
    each = [_strokes(WAYS, shots + QUERIES, generator) for _ in range(tasks)]
    x = torch.stack(each).reshape(tasks, WAYS, shots + QUERIES, SIDE, SIDE, 1)
    return {
        "support_x": x[:, :, :shots].flatten(1, 2).contiguous(),
        "support_y": _classes(WAYS, shots).expand(tasks, -1).contiguous(),
        "query_x": x[:, :, shots:].flatten(1, 2).contiguous(),
        "query_y": _classes(WAYS, QUERIES).expand(tasks, -1).contiguous(),
    }


def draw(problem: dict[str, Any], generator: torch.Generator) -> Tensors:
    """One draw of examples for a metric learner: pictures class by class, all of a class's in a row."""
    per_class = problem["shots"] + problem["queries"]
    shape = torch.tensor([problem["ways"], problem["shots"], problem["queries"]])
    return {"x": _strokes(problem["ways"], per_class, generator), "shape": shape}


def sinusoids(problem: dict[str, Any], generator: torch.Generator) -> Tensors:
    tasks, shots, n = problem["tasks"], problem["shots"], problem["shots"] + problem["queries"]
    amplitude, phase = 0.1 + 4.9 * _uniform(generator, tasks, 1, 1), torch.pi * _uniform(generator, tasks, 1, 1)
    x = 10 * _uniform(generator, tasks, n, 1) - 5
    y = amplitude * torch.sin(x - phase)
    halves = {"support_x": x[:, :shots], "support_y": y[:, :shots], "query_x": x[:, shots:], "query_y": y[:, shots:]}
    return {name: half.contiguous() for name, half in halves.items()}


def vectors(problem: dict[str, Any], generator: torch.Generator) -> Tensors:
    """Classes as clouds about centres of their own, near enough to each other to be mistaken at times."""
    tasks, shots, width = problem["tasks"], problem["shots"], problem["width"]
    centres = 0.15 * torch.randn(tasks, WAYS, 1, width, generator=generator)
    x = centres + torch.randn(tasks, WAYS, shots + QUERIES, width, generator=generator)
    return {
        "support_x": x[:, :, :shots].flatten(1, 2).contiguous(),
        "support_y": _classes(WAYS, shots).expand(tasks, -1).contiguous(),
        "query_x": x[:, :, shots:].flatten(1, 2).contiguous(),
        "query_y": _classes(WAYS, QUERIES).expand(tasks, -1).contiguous(),
    }


def _strokes(ways: int, per_class: int, generator: torch.Generator) -> Tensor:
    """uint8 (ways * per_class, 28, 28, 1), class by class."""
    strokes = _uniform(generator, ways, 1, 7, 7).round()
    ink = nn.functional.interpolate(strokes, size=(SIDE, SIDE)).repeat_interleave(per_class, 0)
    noisy = 255 * (0.7 * ink + 0.3 * _uniform(generator, *ink.shape))
    return noisy.byte().permute(0, 2, 3, 1).contiguous()


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator)


def _classes(ways: int, per_class: int) -> Tensor:
    return torch.arange(ways).repeat_interleave(per_class)
