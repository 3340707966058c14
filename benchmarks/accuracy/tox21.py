"""Tox21, one model of 12 assays against 12 models of one: `python -m benchmarks.accuracy.tox21 --data ../shared/data`.

Each seed draws a split (80/10/10% of the molecules, equal fingerprints together), and all models of a seed share it.
Every model has the same encoder, steps, rows per step and settings, chosen on the validation rows of a seed that is not
among those reported. Trained models stay in `--work`; the same command goes on where it stopped.
Results: `benchmarks/results/tox21.*`. Fails where the joint model is behind the single ones.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.joint import changed, over_few, report_once
from benchmarks.accuracy.measuring import Budget
from benchmarks.accuracy.pages import write
from benchmarks.accuracy.table import Heading, Row, Table
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe, read_recipe
from kshot.contracts.wire import Array
from kshot.training.loop import Unfinished
from kshot.training.tables import load_table

RECIPE = Path("benchmarks/recipes/tox21/joint.toml")
WEIGHTINGS = ("equal", "uncertainty", "pcgrad", "upgrad")
SINGLE = "12 single-task models"
_ASSAYS = 12
_AUC, _AHEAD = Heading("mean ROC-AUC of 12 assays"), Heading("minus single-task, paired by assay")
_AHEAD_BY_SEED = Heading("minus single-task, paired by seed")
_NOTES = (
    "Each seed draws a split of the molecules (80/10/10% at random, molecules with equal fingerprints together), "
    "initial weights and batches; a seed's models share the split. Intervals are Student's t over the 12 assays (each "
    "its mean over seeds), or over the seeds where the heading says so.",
    "A single-task model has the same encoder, steps, rows per step and settings, and trains on all rows that have its "
    "assay. The 12 of them together cost about six times the time of one joint model with equal weights.",
    "The split is at random, not by scaffold, so the figures do not compare with scaffold-split leaderboards.",
)

Reports = dict[str, dict[str, Any]]
"""The training report of each model, by weighting for the joint ones and by assay for the single ones."""


def models(recipe: Recipe, data: Path, seeds: int) -> list[tuple[int, str, Recipe]]:
    """(seed, name, recipe) of all models, those first that the comparison needs most."""
    assays = [target.name for target in load_table("tox21", "train", data, 0).targets]
    named = [(name, changed(recipe, training={"weighting": name})) for name in WEIGHTINGS]
    single = [(name, changed(recipe, data={"targets": (name,)})) for name in assays]
    return [
        (seed, name, changed(own, seed=seed))
        for part in (named[:1] + single, named[1:])
        for seed in range(seeds)
        for name, own in part
    ]


def train_all(recipe: Recipe, work: Path, data: Path, seeds: int, budget: Budget) -> list[Reports]:
    """The reports of each seed, as far as the budget goes."""
    reports: list[Reports] = [{} for _ in range(seeds)]
    try:
        for seed, name, own in models(recipe, data, seeds):
            reports[seed][name] = report_once(own, work / f"seed{seed}" / name, data, budget)
    except Unfinished as stop:
        print(stop)
    return reports


def table_of(reports: list[Reports]) -> Table:
    """The results of the seeds whose single models are all there; Invalid where there is none yet."""
    complete = [own for own in reports if len(set(own) - set(WEIGHTINGS)) == _ASSAYS]
    if not complete:
        raise Invalid("no seed has all its single-task models yet")
    assays = [name for name in complete[0] if name not in WEIGHTINGS]
    single = np.array([[_auc(own, name, name) for name in assays] for own in complete])
    rows = [Row(SINGLE, {_AUC: over_few(single.mean(0))}, unfinished=_seeds(len(single), len(reports)))]
    details = [{"model": SINGLE, "seeds": str(len(single))} | _by_assay(assays, single)]
    for weighting in WEIGHTINGS:
        there = np.array([weighting in own for own in complete])
        if not there.any():
            continue
        chosen = [own[weighting] for own in complete if weighting in own]
        joint = np.array([[report["figures"]["test"][name]["roc_auc"] for name in assays] for report in chosen])
        ahead = joint - single[there]
        figures = {_AUC: over_few(joint.mean(0)), _AHEAD: over_few(ahead.mean(0))}
        if len(joint) > 1:
            figures[_AHEAD_BY_SEED] = over_few(ahead.mean(1))
        rows.append(Row(f"joint, {weighting}", figures, unfinished=_seeds(len(joint), len(reports))))
        seeds = {"model": f"joint, {weighting}", "seeds": str(len(joint))}
        details.append(seeds | _by_assay(assays, joint) | _agreement(chosen))
    title = "Tox21: one model of 12 assays against 12 models of one"
    headings = (_AUC, _AHEAD, _AHEAD_BY_SEED)
    return Table(title, "ROC-AUC on held-out molecules", headings, tuple(rows), _NOTES, tuple(details), digits=4)


def _seeds(done: int, asked: int) -> str:
    return "" if done == asked else f"{done} of {asked} seeds"


def _auc(own: Reports, model: str, assay: str) -> float:
    return float(own[model]["figures"]["test"][assay]["roc_auc"])


def _by_assay(assays: list[str], scores: Array) -> dict[str, str]:
    """The mean over seeds; ``scores``: (seeds, assays)."""
    return {assay: f"{mean:.3f}" for assay, mean in zip(assays, scores.mean(0), strict=True)}


def _agreement(reports: list[dict[str, Any]]) -> dict[str, str]:
    """The mean cosine of two tasks' gradients, and how many pairs of tasks are against each other on average."""
    means = np.array([report["gradient_cosines"] for report in reports], float).mean(0)
    pairs = means[np.triu_indices(len(means), 1)]
    return {"mean cosine": f"{pairs.mean():.3f}", "pairs below 0": f"{(pairs < 0).sum()} of {len(pairs)}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on")
    parser.add_argument("--work", type=Path, default=Path("runs/tox21"), help="where trained models stay")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    reports = train_all(read_recipe(RECIPE), given.work, given.data, given.seeds, Budget(given.minutes))
    try:
        table = table_of(reports)
    except Invalid as error:
        sys.exit(f"error: {error.message}")
    write(given.out / "tox21", table)
    finished = all(len(own) == _ASSAYS + len(WEIGHTINGS) for own in reports)
    equal = next((row.figures[_AHEAD] for row in table.rows if row.name == "joint, equal"), None)
    if equal is not None:
        print(f"joint, equal minus single-task: {equal.mean:+.4f} +- {equal.interval:.4f}")
    return 0 if finished and equal is not None and equal.mean >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
