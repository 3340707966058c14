"""Models of several targets, trained once each: finished ones stay in the work folder and are not trained again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.accuracy.measuring import Budget
from benchmarks.accuracy.table import Figure
from benchmarks.report import command
from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.recipe import Recipe
from kshot.contracts.wire import Array
from kshot.training.loop import meta_train
from kshot.training.report import REPORT_FILE, joint_report, write_report

_RECIPE_FILE = "recipe.json"


def changed(recipe: Recipe, **fields: dict[str, Any] | int | str) -> Recipe:
    """The recipe with other values; those of a section, given as a mapping, join the section's own."""
    plain = recipe.model_dump()
    for name, value in fields.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    return Recipe.model_validate(plain)


def trained_once(recipe: Recipe, folder: Path, data: Path, budget: Budget) -> Checkpoint:
    """The checkpoint of a recipe, from ``folder`` where it is finished, else trained there from where it stopped.

    Raises Unfinished once the budget is over.
    """
    if _is_finished(recipe, folder):
        return load_checkpoint(folder)
    budget.check(f"what comes before {folder}")
    checkpoint = meta_train(recipe, data, folder, command(), lambda line: None, budget.minutes)
    if recipe.training.scheme == "multitask":
        write_report(folder, joint_report(checkpoint, recipe, data))
    (folder / _RECIPE_FILE).write_text(recipe.model_dump_json())
    print(f"trained {folder} in {checkpoint.manifest.lineage.seconds:.0f} s", flush=True)
    return checkpoint


def report_once(recipe: Recipe, folder: Path, data: Path, budget: Budget) -> dict[str, Any]:
    """The report of joint training; trained as :func:`trained_once` does."""
    trained_once(recipe, folder, data, budget)
    report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text())
    return report


def _is_finished(recipe: Recipe, folder: Path) -> bool:
    file = folder / _RECIPE_FILE
    return file.is_file() and Recipe.model_validate_json(file.read_text()) == recipe


def over_few(scores: Sequence[float] | Array) -> Figure:
    """The mean of a few seeds, folds or assays and half the width of its 95% interval, by Student's t."""
    n = len(scores)
    half = student.ppf(0.975, n - 1) * np.std(scores, ddof=1) / np.sqrt(n)
    return Figure(float(np.mean(scores)), float(half), n)
