"""Time per task as more tasks share a call, in this process: the learners alone, without HTTP."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kshot.checkpoints import load_checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS

_CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
_WAYS = 5
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Call:
    """Medians. ``threads``: of torch in this process."""

    what: str
    tasks: int
    threads: int
    ms_per_task: float


def measure(counts: Sequence[int] = COUNTS, rounds: int = 3) -> list[Call]:
    """Adapting and answering 5 queries: `vectors` (ridge, 5-shot, 384 numbers) and `glyphs-maml` (conv4, 1-shot)."""
    shapes = {"vectors": (5, (384,)), "glyphs-maml": (1, (28, 28, 1))}
    return [
        Call(name, count, torch.get_num_threads(), _per_task(name, count, shots, shape, rounds))
        for name, (shots, shape) in shapes.items()
        for count in counts
    ]


def _per_task(name: str, count: int, shots: int, shape: tuple[int, ...], rounds: int) -> float:
    checkpoint = load_checkpoint(_CHECKPOINTS / name)
    learner, random = LEARNERS[checkpoint.manifest.learner.name], np.random.default_rng(0)
    supports = [_support(random, shots, shape) for _ in range(count)]
    queries = [_inputs(random, _WAYS, shape) for _ in range(count)]
    spent = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        states = learner.adapt_only(checkpoint, supports, LearnerOptions())
        learner.predict(checkpoint, states, queries)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:]) * 1000 / count


def _support(random: np.random.Generator, shots: int, shape: tuple[int, ...]) -> Support:
    labels = torch.arange(_WAYS).repeat_interleave(shots)
    return Support("classification", _inputs(random, _WAYS * shots, shape), labels, _WAYS)


def _inputs(random: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        return random.normal(size=(rows, *shape)).astype(np.float32)
    return random.integers(0, 256, size=(rows, *shape), dtype=np.uint8)
