"""Tox21, one model of 12 assays against 12 models of one: `python -m benchmarks.accuracy.tox21 --data ../shared/data`.

Each seed draws a split (80/10/10% of the molecules, equal fingerprints together), and all models of a seed share it.
Every model has the same encoder, steps, rows per step and settings, chosen on the validation rows of a seed that is not
among those reported. Trained models stay in `--work`; the same command goes on where it stopped.
Results: `benchmarks/results/tox21.*`. Fails where the joint model is behind the single ones.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.joint import changed, over_seeds, report_once
from benchmarks.accuracy.runs import Budget
from benchmarks.accuracy.table import Heading, Row, Table, write
from kshot.training.loop import Unfinished
from kshot.training.recipe import Recipe, read_recipe
from kshot.training.tables import load_table

RECIPE = Path("benchmarks/recipes/tox21/joint.toml")
WEIGHTINGS = ("equal", "uncertainty", "pcgrad", "upgrad")
SINGLE = "12 single-task models"
_AUC, _AHEAD = Heading("mean ROC-AUC of 12 assays"), Heading("minus single-task, paired")
_NOTES = (
    "Figures are over seeds: each draws a split of the molecules (80/10/10% at random, molecules with equal "
    "fingerprints together), initial weights and batches. A seed's models share the split; differences are paired by "
    "seed, intervals are Student's t.",
    "A single-task model has the same encoder, steps, rows per step and settings, and trains on all rows that have its "
    "assay. The 12 of them together cost about six times the time of one joint model with equal weights.",
    "The split is at random, not by scaffold, so the figures do not compare with scaffold-split leaderboards.",
)

Scores = Mapping[str, float]
"""ROC-AUC of each assay on the test rows."""


def seed_scores(recipe: Recipe, seed: int, work: Path, data: Path, budget: Budget) -> dict[str, dict[str, Any]]:
    """The reports of one seed: of each weighting, and of the single models by assay."""
    reports = {}
    for weighting in WEIGHTINGS:
        joint = changed(recipe, seed=seed, training={"weighting": weighting})
        reports[weighting] = report_once(joint, work / f"seed{seed}" / weighting, data, budget)
    for target in load_table("tox21", "train", data, seed).targets:
        single = changed(recipe, seed=seed, data={"targets": (target.name,)})
        reports[target.name] = report_once(single, work / f"seed{seed}" / f"only-{target.name}", data, budget)
    return reports


def scores_of(reports: Mapping[str, dict[str, Any]]) -> dict[str, Scores]:
    """By model: ROC-AUC on the test rows by assay."""
    found = {name: _test_auc(reports[name]) for name in WEIGHTINGS}
    singles = [_test_auc(report) for name, report in reports.items() if name not in WEIGHTINGS]
    return {SINGLE: {assay: auc for single in singles for assay, auc in single.items()}, **found}


def _test_auc(report: Mapping[str, Any]) -> Scores:
    return {assay: figures["roc_auc"] for assay, figures in report["figures"]["test"].items()}


def table_of(seeds: list[dict[str, Scores]], reports: list[dict[str, dict[str, Any]]], asked: int) -> Table:
    """The results of some seeds."""
    rows, details = [], []
    for name in seeds[0]:
        means = [float(np.mean(list(scores[name].values()))) for scores in seeds]
        ahead = [
            mean - float(np.mean(list(scores[SINGLE].values()))) for mean, scores in zip(means, seeds, strict=True)
        ]
        figures = {_AUC: over_seeds(means, asked)} | ({} if name == SINGLE else {_AHEAD: over_seeds(ahead, asked)})
        label = name if name == SINGLE else f"joint, {name}"
        rows.append(Row(label, figures))
        by_assay = {assay: f"{np.mean([scores[name][assay] for scores in seeds]):.3f}" for assay in seeds[0][name]}
        details.append({"model": label, **by_assay} | _agreement([r[name] for r in reports] if name != SINGLE else []))
    return Table("Tox21: one model of 12 assays against 12 models of one", "ROC-AUC on held-out molecules",
                 (_AUC, _AHEAD), tuple(rows), _NOTES, tuple(details), digits=4)  # fmt: skip


def _agreement(reports: list[dict[str, Any]]) -> dict[str, str]:
    """The mean cosine of two tasks' gradients, and how many pairs of tasks are against each other on average."""
    if not reports:
        return {}
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
    recipe, budget, reports = read_recipe(RECIPE), Budget(given.minutes), []
    try:
        for seed in range(given.seeds):
            reports.append(seed_scores(recipe, seed, given.work, given.data, budget))
    except Unfinished as stop:
        print(stop)
    if not reports:
        return 1
    table = table_of([scores_of(report) for report in reports], reports, given.seeds)
    write(given.out / "tox21", table)
    equal = next(row for row in table.rows if row.name == "joint, equal")
    print(f"joint, equal minus single-task: {equal.figures[_AHEAD].mean:+.4f} +- {equal.figures[_AHEAD].interval:.4f}")
    return 0 if len(reports) == given.seeds and equal.figures[_AHEAD].mean >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
