"""What joint training of several targets gave: figures on held-out rows, and how the tasks' gradients agreed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.contracts.wire import Array
from kshot.episodes.tables import Table, Target
from kshot.metrics import calibration_error, class_scores, roc_auc, value_scores
from kshot.training.multitask import trained_answers
from kshot.training.tables import load_table, training_table

REPORT_FILE = "report.json"


def joint_report(checkpoint: Checkpoint, recipe: Recipe, data: Path) -> dict[str, Any]:
    """Per target the figures of its trained head on the validation and test rows; the mean cosines of the gradients.

    ``gradient_cosines``: (T, T) in the order of ``targets``, the mean over the ``batches`` that had both targets; None
    where no batch had.
    """
    trained = training_table(recipe, data)
    if recipe.data is None or trained is None:
        raise Invalid("a report of joint training needs a recipe that names a table")
    names = [target.name for target in trained.targets]
    held_out = {part: load_table(recipe.data.name, part, data, recipe.seed, names) for part in ("valid", "test")}
    counts = checkpoint.head["cosine_count"]
    mean = checkpoint.head["cosine_sum"] / counts
    return {
        "targets": names,
        "weighting": recipe.training.weighting,
        "rows": {"train": len(trained)} | {part: len(table) for part, table in held_out.items()},
        "figures": {part: joint_figures(checkpoint, table) for part, table in held_out.items()},
        "gradient_cosines": [[None if np.isnan(value) else round(value, 4) for value in row] for row in mean.tolist()],
        "batches": int(counts.max()),
    }


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the report beside its checkpoint."""
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")


def joint_figures(checkpoint: Checkpoint, table: Table) -> dict[str, dict[str, float | None]]:
    """Of each target, from the trained heads: mse and r2, or accuracy, macro F1 and so on; roc_auc where it has two
    classes. None where the rows cannot tell; only rows that have the target count."""
    answers = trained_answers(checkpoint, table.targets, table.inputs)
    figures: dict[str, dict[str, float | None]] = {}
    for target, values in zip(table.targets, table.values.T, strict=True):
        present = ~np.isnan(values)
        if not present.any():
            figures[target.name] = {}
            continue
        figures[target.name] = _figures(target, answers[target.name][torch.as_tensor(present)].cpu(), values[present])
    return figures


def _figures(target: Target, answers: Tensor, truth: Array) -> dict[str, float | None]:
    if target.kind == "regression":
        scores = value_scores(answers.numpy(), truth[:, None])
        return {"mse": scores.mse, "r2": scores.r2}
    found = class_scores(answers.argmax(1).numpy(), truth.astype(np.int64))
    figures: dict[str, float | None] = {"accuracy": found.accuracy, "macro_f1": found.macro_f1}
    figures["calibration_error"] = calibration_error(answers.softmax(1).numpy(), truth.astype(np.int64))
    if target.n_way == 2:
        figures["roc_auc"] = roc_auc((answers[:, 1] - answers[:, 0]).numpy(), truth)
    return figures
