"""Figures of a checkpoint, measured a chunk at a time and kept: the same question of the same weights is asked once.

Below a work folder, ``measured`` holds one JSON per question, named by the sha256 of the weights and of all that is
asked of them. A change of a learner's code is no part of it: remove the folder after one.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.accuracy.table import Figure, Heading
from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import Manifest
from kshot.contracts.recipe import EvaluationTask
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.training.data import SINUSOIDS, Split, load_pool
from kshot.training.evaluation import evaluate
from kshot.training.loop import Unfinished
from kshot.training.precompute import precompute

SEED = 20_000  # of the evaluation episodes, as in kshot.training: every learner sees the same ones
_CHUNK = 50


@dataclass(frozen=True)
class Column:
    """One figure to measure: where it goes, on which episodes, with which options."""

    heading: Heading
    task: EvaluationTask
    options: LearnerOptions = LearnerOptions()
    transductive: bool = False


class Budget:
    """The time one command may take; without ``minutes``, all it needs."""

    def __init__(self, minutes: float | None) -> None:
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def minutes(self) -> float | None:
        """What is left."""
        return None if self._end == math.inf else max(0.0, (self._end - time.monotonic()) / 60)

    def check(self, done: str) -> None:
        """Raises Unfinished once the time is over."""
        if time.monotonic() > self._end:
            raise Unfinished(f"the minutes are over after {done}; the same command goes on")


class Tasks:
    """Episodes for a checkpoint. Pools stay, with the features of a frozen backbone, which runs over each just once."""

    def __init__(self, checkpoint: Checkpoint, data: Path) -> None:
        self.checkpoint = checkpoint
        self._data = data
        self._pools: dict[tuple[str, Split], tuple[Checkpoint, Pool]] = {}

    def drawn(self, task: EvaluationTask) -> tuple[Checkpoint, Iterator[Episode]]:
        """Endless episodes of a column, and the checkpoint that takes their inputs."""
        if task.data == SINUSOIDS:
            return self.checkpoint, sinusoids(task.k_shot, task.n_query, SEED)
        checkpoint, pool = self._pool(task.data, task.split)
        return checkpoint, episodes(
            pool, EpisodeShape(task.n_way or len(pool.classes), task.k_shot, task.n_query), SEED
        )

    def _pool(self, name: str, split: Split) -> tuple[Checkpoint, Pool]:
        if (name, split) not in self._pools:
            manifest = self.checkpoint.manifest
            encoder, pool = precompute(self.checkpoint.encoder, load_pool(name, split, self._data, manifest.input))
            self._pools[name, split] = Checkpoint(manifest, encoder, self.checkpoint.head), pool
        return self._pools[name, split]


def measure(tasks: Tasks, column: Column, asked: int, folder: Path, budget: Budget) -> None:
    """Bring the measurement of a column to ``asked`` episodes, a chunk at a time. Raises Unfinished between chunks."""
    manifest = tasks.checkpoint.manifest
    file = _file(folder, manifest, column)
    parts: list[dict[str, float]] = _parts(file)
    done = sum(int(part["episodes"]) for part in parts)
    if done >= asked:
        return
    checkpoint, drawn = tasks.drawn(column.task)
    drawn = islice(drawn, done, None)
    while done < asked:
        left = asked - done
        count = left if left <= _CHUNK + 1 else _CHUNK  # an interval needs two
        row = evaluate(checkpoint, column.task.data, drawn, count, column.options, column.transductive)
        done += count
        parts.append({"episodes": count, "mean": row.mean, "interval": row.interval})
        _write(file, {"asked": _question(manifest, column), "parts": parts})
        budget.check(f"{done} of {asked} episodes of {manifest.name}, {column.heading.name}")


def measured(folder: Path, manifest: Manifest, column: Column, asked: int, scale: float = 1.0) -> Figure | None:
    """What is known of a column, times ``scale`` (100 for per cent); None where nothing is.

    The chunks' means and intervals give exactly those of all their episodes together.
    """
    parts = _parts(_file(folder, manifest, column))
    if not parts:
        return None
    count = sum(int(part["episodes"]) for part in parts)
    mean = sum(part["episodes"] * part["mean"] for part in parts) / count
    within = sum((p["episodes"] - 1) * p["episodes"] * (p["interval"] / 1.96) ** 2 for p in parts)
    between = sum(part["episodes"] * (part["mean"] - mean) ** 2 for part in parts)
    interval = 1.96 * math.sqrt((within + between) / (count - 1) / count)
    return Figure(scale * mean, scale * interval, count, asked)


def _question(manifest: Manifest, column: Column) -> dict[str, Any]:
    return {
        "weights": manifest.weights_sha256,
        "learner": manifest.learner.model_dump(),
        "task": column.task.model_dump(exclude={"episodes"}),
        "options": column.options.model_dump(exclude_none=True),
        "transductive": column.transductive,
        "seed": SEED,
    }


def _file(folder: Path, manifest: Manifest, column: Column) -> Path:
    text = json.dumps(_question(manifest, column), sort_keys=True)
    return folder / "measured" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _parts(file: Path) -> list[dict[str, float]]:
    return list(json.loads(file.read_text())["parts"]) if file.is_file() else []


def _write(file: Path, content: dict[str, Any]) -> None:
    """The file appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(file)
