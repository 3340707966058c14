"""What stands behind a table: recipes trained and measured in a work folder, in as many sittings as it takes.

    settings = read_settings("What the command does", "omniglot")         # the command line all tables share
    runs = read_runs(Path("benchmarks/recipes/omniglot"), settings)
    carry_on(runs, columns, settings)        # trains and measures until all is done or the minutes are over
    rows = rows_of(runs, columns, settings, published)                    # of rows.py; then write() of table.py

``runs/<table>/<recipe>`` holds a run's checkpoint, and its progress while it is being trained: the same command again
goes on where the last one stopped. A checkpoint counts as the recipe's where input, encoder, learner and seed are the
same, and as complete where the steps are: after any other change of a recipe remove its folder.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.accuracy.measuring import Budget, Column, Tasks, measure, measured
from benchmarks.report import command
from kshot.checkpoints import load_checkpoint, read_manifest
from kshot.contracts.checkpoints import MANIFEST_FILE, Manifest
from kshot.contracts.recipe import Recipe, read_recipe
from kshot.training.loop import Unfinished, meta_train


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
