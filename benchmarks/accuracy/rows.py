"""From runs to the rows of a table: one per learner, though its columns may come from several recipes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.accuracy.measuring import Column, measured
from benchmarks.accuracy.runs import Columns, Run, Settings
from benchmarks.accuracy.table import Figure, Heading, Row

Published = Mapping[str, Mapping[Heading, float]]
"""By learner and heading."""


@dataclass
class _Group:
    """The recipes of one row and the headings they fill."""

    name: str
    learner: str
    runs: list[Run] = field(default_factory=list)
    headings: set[Heading] = field(default_factory=set)


def rows_of(
    runs: Sequence[Run], columns: Columns, settings: Settings, published: Published, scale: float = 1.0
) -> tuple[Row, ...]:
    """A row per learner; a second recipe of a learner joins its row unless both fill a column: then it has its own.

    A recipe that is only where others start has none.
    What is published stands beside the learner's first row alone. ``scale``: 100 for per cent.
    """
    rows = []
    for group in _groups(runs, columns):
        figures: dict[Heading, Figure] = {}
        for run in group.runs:
            figures |= _figures(run, columns(run.recipe), settings, scale)
        beside = published.get(group.learner, {}) if group.name == group.learner else {}
        rows.append(Row(group.name, figures, beside, ", ".join(_unfinished(group.runs))))
    return tuple(rows)


def training_details(runs: Sequence[Run]) -> tuple[Mapping[str, Any], ...]:
    """What each training was and what it cost, for the second table of a page."""
    return tuple(_detail(run) for run in runs)


def _groups(runs: Sequence[Run], columns: Columns) -> list[_Group]:
    groups: list[_Group] = []
    for run in sorted(runs, key=lambda run: (run.stem != run.recipe.learner.name, run.stem)):
        learner, headings = run.recipe.learner.name, {column.heading for column in columns(run.recipe)}
        if run.stem != learner and run.starts_others(runs):
            continue
        own = next((g for g in groups if g.learner == learner and not g.headings & headings), None)
        if own is None:
            taken = any(group.learner == learner for group in groups)
            own = _Group(run.stem if taken else learner, learner)
            groups.append(own)
        own.runs.append(run)
        own.headings |= headings
    return sorted(groups, key=lambda group: group.name)


def _figures(run: Run, columns: Sequence[Column], settings: Settings, scale: float) -> dict[Heading, Figure]:
    manifest = run.manifest
    if manifest is None:
        return {}
    asked = [(column, settings.episodes or column.task.episodes) for column in columns]
    found = {column.heading: measured(run.folder, manifest, column, count, scale) for column, count in asked}
    return {heading: figure for heading, figure in found.items() if figure is not None}


def _unfinished(runs: Sequence[Run]) -> list[str]:
    return [
        f"{f'{run.stem}: ' if len(runs) > 1 else ''}{run.steps:,} of {run.recipe.training.steps:,} steps"
        for run in runs
        if not run.complete
    ]


def _detail(run: Run) -> dict[str, Any]:
    manifest, training = run.manifest, run.recipe.training
    ways = f"{_range(training.n_way)}-way " if training.n_way else ""
    return {
        "recipe": run.stem,
        "learner": run.recipe.learner.name,
        "trained on": f"{ways}{_range(training.k_shot)}-shot, {training.n_query} queries, {training.scheme}",
        "started at": run.recipe.start.parent if run.recipe.start else "random weights",
        "steps": f"{run.steps:,} of {training.steps:,}",
        "meta-batch": training.meta_batch,
        "seed": run.recipe.seed,
        "seconds": f"{manifest.lineage.seconds:,.0f}" if manifest else "",
        "made": f"{manifest.lineage.created_at:%Y-%m-%d %H:%M}" if manifest else "",
        "options": ", ".join(
            f"{name} {value}" for name, value in (run.recipe.learner.options | training.options).items()
        ),
    }


def _range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return str(low) if low == high else f"{low} to {high}"
