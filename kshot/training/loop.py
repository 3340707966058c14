"""Meta-training by hand: a recipe and data in, a checkpoint out."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.recipe import Recipe
from kshot.training.descent import descend, first_optimiser
from kshot.training.lineage import lineage_of
from kshot.training.model import Prepared, checkpoint_of, first_model, loss_of
from kshot.training.progress import Run, drop_progress, load_progress, save_progress
from kshot.training.world import ALONE, World

_SAVES = 20
_REPORTS = 100

Report = Callable[[str], None]


class Unfinished(Exception):
    """The time given to a run is over; what it did is saved, and the same call goes on from there."""


def meta_train(
    recipe: Recipe,
    data: Path,
    out: Path,
    command: str,
    report: Report = print,
    minutes: float | None = None,
    prepared: Prepared | None = None,
    world: World = ALONE,
) -> Checkpoint:
    """Meta-train a checkpoint and save it into ``out``, now and then on the way and at the end.

    A checkpoint saved on the way is whole and true: its lineage counts the steps it had. A run that was stopped goes on
    from its last save, as if it had not. ``command`` is recorded in the manifest. Raises Invalid where recipe and data
    do not fit, FloatingPointError where the loss is no longer finite, Unfinished once ``minutes`` have passed.
    ``prepared``: the model to start from and its loss, where they are not what the recipe alone says. In a larger
    ``world`` only the first process reads and writes ``out``; the others raise Ended where it stops early. It computes
    on the world's device, and so does the checkpoint.
    """
    torch.manual_seed(recipe.seed)
    model = prepared.model if prepared else first_model(recipe, data, out.parent).on(world.device)
    optimiser = first_optimiser(recipe, model)
    run = Run(model.encoder, model.head, optimiser, np.random.default_rng(recipe.seed), recipe.training.steps)
    if load_progress(out, recipe, run, world) and world.first:
        report(f"continuing after step {run.step}")

    def save() -> Checkpoint:
        checkpoint = checkpoint_of(recipe, model, lineage_of(recipe, data, command, run.step, run.seconds))
        if world.first:
            save_progress(out, recipe, run)
            save_checkpoint(out, checkpoint)
        return checkpoint

    if recipe.training.steps:
        loss = prepared.loss if prepared else loss_of(recipe, model, data, world)
        descend(recipe, model, run, loss, _Watcher(recipe.training.steps, save, report, minutes), world)
    finished = save()
    if world.first:
        drop_progress(out)
    return finished


def with_evaluation(checkpoint: Checkpoint, rows: list[EvaluationRow]) -> Checkpoint:
    """The same checkpoint with another evaluation table."""
    manifest = checkpoint.manifest.model_copy(update={"evaluation": rows})
    return Checkpoint(manifest, checkpoint.encoder, checkpoint.head)


class _Watcher:
    """Reports a hundred times, saves twenty times, stops after so many minutes."""

    def __init__(self, steps: int, save: Callable[[], Checkpoint], report: Report, minutes: float | None) -> None:
        self._steps, self._save, self._report, self._minutes = steps, save, report, minutes
        self._report_every, self._save_every = (max(1, steps // parts) for parts in (_REPORTS, _SAVES))
        self._recent: list[float] = []
        self._since = self._started = time.perf_counter()

    def stepped(self, run: Run, loss: float) -> None:
        self._recent.append(loss)
        if run.step % self._report_every == 0:
            pace = len(self._recent) / (time.perf_counter() - self._since)
            mean = np.mean(self._recent)
            self._report(f"step {run.step}/{self._steps}  loss {mean:.4f}  {pace:.2f} steps/s")
            self._recent, self._since = [], time.perf_counter()
        if run.step % self._save_every == 0:
            self._save()
        passed = time.perf_counter() - self._started
        if self._minutes is not None and passed > 60 * self._minutes and run.step < self._steps:
            self._save()
            raise Unfinished(f"stopped after {run.step} of {self._steps} steps; the same command goes on")
