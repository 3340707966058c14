"""Parkinsons: a new patient from a few recordings: `python -m benchmarks.accuracy.parkinsons --data ../shared/data`.

Six folds, so that each of the 42 patients is held out once (seed 0 is the suggested split). Per held-out patient the
K recordings to learn from are drawn three times; all methods see the same ones. The second table trains a class (sex)
and two numbers (UPDRS) together. Trained models stay in `--work`; the same command goes on where it stopped.
Results: `benchmarks/results/parkinsons.*` and `parkinsons-mixed.*`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.joint import changed, over_few, report_once, trained_once
from benchmarks.accuracy.pages import write
from benchmarks.accuracy.runs import Budget
from benchmarks.accuracy.table import Figure, Heading, Row, Table
from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EncoderSpec, VectorInput
from kshot.contracts.recipe import read_recipe
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array, Inputs
from kshot.encoders.registry import build_encoder
from kshot.episodes.sampling import Episode
from kshot.episodes.tables import sample_group, take_rows
from kshot.learners.registry import get_learner
from kshot.metrics import mean_interval, summarise_values
from kshot.training.evaluation import as_support
from kshot.training.loop import Unfinished
from kshot.training.multitask import trained_answers
from kshot.training.tables import load_table

RECIPES = Path("benchmarks/recipes/parkinsons")
FOLDS, DRAWS, SHOTS = 6, 3, (5, 10, 20)
FILM = {"film_steps": 5, "film_lr": 0.01}
RIDGE = "ridge of the patient alone, 19 columns"
_NOTES = (
    "Squared error of both UPDRS scores, mean over them and over the held-out patients, each once; a patient's K "
    "recordings are drawn three times. Intervals are over patients; differences are paired by patient.",
    "R^2 is pooled over patients, against each patient's own mean: below 0 that mean, not known to any, is better.",
    "UPDRS was assessed three times per patient; the data set's authors interpolated between, so within a patient the "
    "scores are close to piecewise linear in time, and most of what there is to learn is that.",
)
_MIXED_NOTES = (
    "One encoder with three heads (cross-entropy and squared error together, equal weights) against three encoders of "
    "one head; folds by patient, Student's t over folds. Sex is no input here.",
    "R^2 over the recordings of all held-out patients of a fold; below 0 the mean of those recordings is better.",
)

Answer = Callable[[list[Episode]], list[Array]]
Answered = dict[int, list[tuple[Array, Array]]]
"""By K: (values, truth) of each patient, all draws together."""


@dataclass(frozen=True)
class Patient:
    """A held-out patient's episodes by K."""

    episodes: dict[int, list[Episode]]


def held_out(data: Path, fold: int) -> list[Patient]:
    """The test patients of a fold, each with the same recordings for every method."""
    table, patients = load_table("parkinsons", "test", data, fold), []
    for group in np.unique(table.groups):
        own = take_rows(table, np.flatnonzero(table.groups == group))
        rng = np.random.default_rng(int(group))
        patients.append(Patient({k: [sample_group(own, k, len(own), rng) for _ in range(DRAWS)] for k in SHOTS}))
    return patients


def methods(data: Path, work: Path, fold: int, budget: Budget) -> dict[str, Answer]:
    """What is compared, trained on the other patients of a fold."""
    pooled, meta = (
        trained_once(changed(read_recipe(file), seed=fold), work / f"fold{fold}" / file.stem, data, budget)
        for file in (RECIPES / "pooled.toml", RECIPES / "meta.toml")
    )
    plain = replace(pooled, encoder=build_encoder(EncoderSpec(name="identity"), VectorInput()).eval(), head={})
    return {
        "mean of the patient's K recordings": lambda episodes: [_mean(episode) for episode in episodes],
        RIDGE: _adapted(plain, "ridge"),
        "ridge of the patient alone, time alone": lambda episodes: _adapted(plain, "ridge")(_of_time(episodes)),
        "pooled model, not adapted": lambda episodes: [_pooled(pooled, data, fold, episode) for episode in episodes],
        "pooled encoder, new heads": _adapted(pooled, "multitask"),
        "meta-trained encoder, new heads": _adapted(meta, "multitask"),
        "meta-trained encoder, FiLM and new heads": _adapted(_with_film(meta), "multitask"),
    }


def _mean(episode: Episode) -> Array:
    return np.repeat(episode.support_targets.mean(0, keepdims=True), len(episode.query), 0)


def _of_time(episodes: list[Episode]) -> list[Episode]:
    """What someone who knows the data set would keep of the inputs: days since the start."""
    return [replace(e, support=_third(e.support), query=_third(e.query)) for e in episodes]


def _third(inputs: Inputs) -> Array:
    assert not isinstance(inputs, list)
    return inputs[:, [2]]


def _pooled(checkpoint: Checkpoint, data: Path, fold: int, episode: Episode) -> Array:
    targets = load_table("parkinsons", "test", data, fold).targets
    return torch.cat(list(trained_answers(checkpoint, targets, episode.query).values()), 1).numpy()


def _adapted(checkpoint: Checkpoint, name: str) -> Answer:
    learner = get_learner(name)

    def answer(episodes: list[Episode]) -> list[Array]:
        states = learner.adapt(checkpoint, [as_support(episode) for episode in episodes], LearnerOptions())
        outputs = learner.predict(checkpoint, states, [episode.query for episode in episodes])
        return [output.values.numpy() for output in outputs if output.values is not None]

    return answer


def _with_film(checkpoint: Checkpoint) -> Checkpoint:
    spec = checkpoint.manifest.learner.model_copy(update={"options": FILM})
    return replace(checkpoint, manifest=checkpoint.manifest.model_copy(update={"learner": spec}))


def answered(answer: Answer, patients: list[Patient]) -> Answered:
    """A method's answers about held-out patients."""
    found: Answered = {k: [] for k in SHOTS}
    for patient in patients:
        for k, episodes in patient.episodes.items():
            truth = np.concatenate([episode.query_targets for episode in episodes])
            found[k].append((np.concatenate(answer(episodes)), truth))
    return found


def table_of(results: dict[str, Answered]) -> Table:
    """Squared error and R^2 by method and K; the difference to the ridge of the patient alone."""
    headings = [Heading(f"MSE, K={k}", variant) for k in SHOTS for variant in ("", "minus ridge, paired")]
    headings += [Heading(f"R^2, K={k}") for k in SHOTS]
    rows = []
    for name, found in results.items():
        figures: dict[Heading, Figure] = {}
        for k in SHOTS:
            own, ridge = (np.array([np.mean((v - t) ** 2) for v, t in r[k]]) for r in (found, results[RIDGE]))
            figures[Heading(f"MSE, K={k}")] = _over_patients(own)
            if name != RIDGE:
                figures[Heading(f"MSE, K={k}", "minus ridge, paired")] = _over_patients(own - ridge)
            r2 = summarise_values(found[k])["r2"]
            figures[Heading(f"R^2, K={k}")] = Figure(r2.mean, r2.interval, len(own))
        rows.append(Row(name, figures))
    return Table("Parkinsons: a new patient from K recordings", "MSE in squared points of UPDRS, and R^2",
                 tuple(headings), tuple(rows), _NOTES)  # fmt: skip


def _over_patients(scores: Array) -> Figure:
    found = mean_interval(scores)
    return Figure(found.mean, found.interval, len(scores))


def mixed(data: Path, work: Path, folds: int, budget: Budget) -> Table:
    """A class and two numbers trained together, against each alone."""
    recipe = read_recipe(RECIPES / "mixed.toml")
    names = [target.name for target in load_table("parkinsons-sex", "test", data, 0).targets]
    together: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    for fold in range(folds):
        own = changed(recipe, seed=fold)
        joint = report_once(own, work / f"fold{fold}" / "mixed", data, budget)
        singles = [
            report_once(changed(own, data={"targets": (name,)}), work / f"fold{fold}" / f"mixed-{name}", data, budget)
            for name in names
        ]
        together.append(joint["figures"]["test"])
        alone.append({name: s["figures"]["test"][name] for name, s in zip(names, singles, strict=True)})
    columns = {Heading("sex, ROC-AUC"): ("sex", "roc_auc"), Heading("sex, accuracy"): ("sex", "accuracy")}
    for name in names[1:]:
        columns |= {Heading(f"{name}, MSE"): (name, "mse"), Heading(f"{name}, R^2"): (name, "r2")}

    def row(label: str, folds: list[dict[str, Any]]) -> Row:
        found = {h: [fold[name].get(key) for fold in folds] for h, (name, key) in columns.items()}
        told = {h: [score for score in scores if score is not None] for h, scores in found.items()}
        return Row(label, {h: over_few(scores) for h, scores in told.items() if len(scores) > 1})

    rows = (row("three heads together", together), row("one model per target", alone))
    return Table("Parkinsons: a class and two numbers trained together", "of held-out patients' recordings",
                 tuple(columns), rows, _MIXED_NOTES, digits=3)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on")
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1))
    parser.add_argument("--work", type=Path, default=Path("runs/parkinsons"), help="where trained models stay")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    budget, results = Budget(given.minutes), dict[str, Answered]()
    try:
        for fold in range(given.folds):
            patients = held_out(given.data, fold)
            for name, answer in methods(given.data, given.work, fold, budget).items():
                for k, pairs in answered(answer, patients).items():
                    results.setdefault(name, {}).setdefault(k, []).extend(pairs)
        write(given.out / "parkinsons", table_of(results))
        write(given.out / "parkinsons-mixed", mixed(given.data, given.work, given.folds, budget))
    except Unfinished as stop:
        print(stop)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
