"""What stands behind a table: recipes trained and measured in a work folder, in as many sittings as it takes.

    runs = read_runs(Path("benchmarks/recipes/omniglot"), Path("runs/omniglot"))
    carry_on(runs, columns, settings)         # trains and measures until all is done or the minutes are over
    figure = measured(runs[0].folder, manifest, column, 600)

``runs/<table>/<recipe>`` holds a run's checkpoint, its progress while it is being trained, and below ``measured`` one
JSON per column: keyed by the weights and everything asked of them, filled in chunks of 50 episodes. So the same command
again goes on where the last one stopped, and weights that changed are measured anew. After a change of a learner's code
or of a recipe's training settings remove the run's folder: neither is part of the key.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.table import Figure, Heading
from benchmarks.report import command
from kshot.checkpoints import MANIFEST_FILE, Checkpoint, load_checkpoint, read_manifest
from kshot.contracts.checkpoints import Manifest
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.training.data import SINUSOIDS, Split, load_pool
from kshot.training.evaluation import evaluate
from kshot.training.loop import Unfinished, meta_train
from kshot.training.precompute import precompute
from kshot.training.recipe import EvaluationTask, Recipe, read_recipe

SEED = 20_000  # of the evaluation episodes, as in kshot.training: every learner sees the same ones
_CHUNK = 50


@dataclass(frozen=True)
class Settings:
    """What the commands of all tables understand; see :func:`read_settings`."""

    data: Path
    work: Path
    out: Path
    only: tuple[str, ...] = ()
    episodes: int | None = None
    seed: int | None = None
    minutes: float | None = None
    training: bool = True


@dataclass(frozen=True)
class Column:
    """One figure to measure: where it goes, on which episodes, with which options."""

    heading: Heading
    task: EvaluationTask
    options: LearnerOptions = LearnerOptions()
    transductive: bool = False


@dataclass(frozen=True)
class Run:
    """A recipe and the folder its checkpoint grows in."""

    stem: str
    recipe: Recipe
    folder: Path

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of what there is so far; None where there is nothing, or what another recipe made."""
        if not (self.folder / MANIFEST_FILE).is_file():
            return None
        manifest, recipe = read_manifest(self.folder), self.recipe
        ours = (recipe.input, recipe.encoder, recipe.learner, recipe.seed)
        return manifest if (manifest.input, manifest.encoder, manifest.learner, manifest.lineage.seed) == ours else None

    @property
    def steps(self) -> int:
        """Steps done."""
        manifest = self.manifest
        return manifest.lineage.steps if manifest else 0

    @property
    def complete(self) -> bool:
        """Whether the checkpoint is trained to the end."""
        return self.manifest is not None and self.steps == self.recipe.training.steps

    def starts_others(self, runs: Sequence["Run"]) -> bool:
        """Whether one of ``runs`` begins at this run's checkpoint."""
        return any(run.recipe.start is not None and run.recipe.start.parent == self.folder.name for run in runs)


Columns = Callable[[Recipe], list[Column]]
"""The columns a recipe's weights are measured for."""


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


def read_settings(text: str, table: str, arguments: Sequence[str] | None = None) -> Settings:
    """The command line of a table; ``text`` is its help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs") / table, help="where runs and measurements stay")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", default="", help="recipes or learners to work on, with commas; the others are shown")
    parser.add_argument("--episodes", type=int, help="of each column, instead of what the recipe says")
    parser.add_argument("--seed", type=int, help="instead of the recipes' own")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on")
    parser.add_argument("--no-training", action="store_true", help="measure what is there, trained to the end or not")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    only = tuple(name for name in given.only.split(",") if name)
    return Settings(
        given.data, given.work, given.out, only, given.episodes, given.seed, given.minutes, not given.no_training
    )


def read_runs(recipes: Path, settings: Settings) -> list[Run]:
    """The runs of a folder of recipes: those that others start from first, then by name.

    With another seed than its recipe's a run has a folder of its own.
    """
    read = {file.stem: read_recipe(file) for file in sorted(recipes.glob("*.toml"))}
    folders = {stem: _folder(stem, recipe, settings.seed) for stem, recipe in read.items()}
    runs = [
        Run(stem, _seeded(recipe, settings.seed, folders), settings.work / folders[stem])
        for stem, recipe in read.items()
    ]
    return sorted(runs, key=lambda run: not run.starts_others(runs))


def _folder(stem: str, recipe: Recipe, seed: int | None) -> str:
    return stem if seed in {None, recipe.seed} else f"{stem}-seed{seed}"


def _seeded(recipe: Recipe, seed: int | None, folders: Mapping[str, str]) -> Recipe:
    if seed is None:
        return recipe
    start = recipe.start
    if start is not None:
        start = start.model_copy(update={"parent": folders.get(start.parent, start.parent)})
    return recipe.model_copy(update={"seed": seed, "start": start})


def carry_on(runs: Sequence[Run], columns: Columns, settings: Settings, report: Callable[[str], None] = print) -> bool:
    """Train and measure what is not done yet, a run at a time; False where the minutes were over before the end."""
    budget = Budget(settings.minutes)
    wanted = [run for run in runs if not settings.only or {run.stem, run.recipe.learner.name} & set(settings.only)]
    try:
        for run in runs:
            if run in wanted or run.starts_others(wanted):
                _carry_on(run, columns, settings, budget, report)
    except Unfinished as stopped:
        report(str(stopped))
        return False
    return True


def _carry_on(run: Run, columns: Columns, settings: Settings, budget: Budget, report: Callable[[str], None]) -> None:
    def say(line: str) -> None:
        report(f"{run.stem}: {line}")

    if settings.training and not run.complete:
        meta_train(run.recipe, settings.data, run.folder, command(), say, budget.minutes)
    if run.manifest is None:
        return
    tasks = Tasks(load_checkpoint(run.folder), settings.data)
    for column in columns(run.recipe):
        asked = settings.episodes or column.task.episodes
        measure(tasks, column, asked, run.folder, budget)
        figure = measured(run.folder, tasks.checkpoint.manifest, column, asked)
        if figure is not None:
            say(f"{column.heading.name} {figure.mean:.4f} +- {figure.interval:.4f} ({figure.count})")


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
