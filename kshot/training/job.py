"""``python -m kshot.training.job WORK --threads N`` trains a job to its end, from where it was stopped.

WORK holds ``job.json`` (:class:`~kshot.contracts.jobs.JobSpec`), ``data/<data set>/`` and ``checkpoints/``. Events go
to ``events.jsonl``, the state and at last the checkpoint to ``checkpoints/_out``. The state stays there when all is
done: a process that is killed while it evaluates, or just after it ended, finds the finished training in it.
Exit codes are those of :class:`~kshot.contracts.jobs.Exit`; any other is a death, after which the same command goes on.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch

from kshot.allocator import keep_freed_memory
from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EvaluationRow, Lineage
from kshot.contracts.errors import Invalid, KshotError, Unavailable
from kshot.contracts.jobs import EVENTS_FILE, OUT_FOLDER, REQUEST_ID, SPEC_FILE, Exit, JobSpec
from kshot.contracts.recipe import Recipe
from kshot.device import add_device_option, choose_device
from kshot.logs import set_up_logs
from kshot.training.data import dataset_manifest, load_pool
from kshot.training.descent import Ended, descend, first_optimiser
from kshot.training.job_events import JobEvents
from kshot.training.job_watch import JobWatch, Stopped, StopSignal
from kshot.training.lineage import lineage_of
from kshot.training.loop import with_evaluation
from kshot.training.measuring import measure, measure_targets
from kshot.training.model import Model, checkpoint_of, first_model, loss_of
from kshot.training.progress import Run, load_progress, save_progress
from kshot.training.signing import signed
from kshot.training.tables import load_table
from kshot.training.validation import validation_of
from kshot.training.world import World, end_with_parent, join_world, leave

_COMMAND = "POST /v1/training-jobs"
_LEAST_CLASSES = 2
_OUR_FAULT = 500


@dataclass(frozen=True)
class Job:
    """One attempt at a job, in its work folder."""

    work: Path
    spec: JobSpec
    events: JobEvents
    stop: StopSignal
    world: World

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def out(self) -> Path:
        return self.work / "checkpoints" / OUT_FOLDER


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the attempt."""
    parser = argparse.ArgumentParser(prog="python -m kshot.training.job")
    parser.add_argument("work", type=Path, help="folder of the attempt")
    parser.add_argument("--threads", type=int, default=1)
    add_device_option(parser)
    given = parser.parse_args(arguments)
    end_with_parent()
    _begin_logs(given.work)
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    stop = StopSignal()
    stop.listen()
    try:
        with join_world(choose_device(given.device)) as world:
            return attempt(given.work, stop, world)
    except Stopped:  # before there was anything to save
        return Exit.STOPPED


def _begin_logs(work: Path) -> None:
    """Lines on standard output, which the trainer quotes where this process dies."""
    set_up_logs(sys.stdout)
    structlog.contextvars.bind_contextvars(attempt_folder=work.name, request_id=os.environ.get(REQUEST_ID))
    structlog.get_logger().info("training_process_started")


def attempt(work: Path, stop: StopSignal, world: World) -> int:
    """Train, measure and sign the job of a work folder; the exit code."""
    spec = JobSpec.model_validate_json((work / SPEC_FILE).read_bytes())
    job = Job(work, spec, JobEvents(work / EVENTS_FILE, speaks=world.first), stop, world)
    try:
        _run(job)
    except (Stopped, Ended):
        return Exit.STOPPED
    except KshotError as error:
        if error.status >= _OUR_FAULT and not isinstance(error, Unavailable):  # a model or package this machine lacks
            raise
        job.events.emit("failed", code=error.code, message=error.message, param=error.param)
        return Exit.FAILED
    except FloatingPointError as error:
        message = f"training diverged: {error}; ask for a smaller optimiser.lr or options.inner_lr"
        job.events.emit("failed", code="diverged", message=message, param="optimiser.lr")
        return Exit.FAILED
    return Exit.FINISHED


def _run(job: Job) -> None:
    recipe = job.spec.recipe
    job.events.emit("phase", phase="training")
    model, run = _train(job)
    if not job.world.first:
        return
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"steps": run.step})})
    checkpoint = checkpoint_of(recipe, model, _lineage(job, recipe, run))
    job.events.emit("phase", phase="evaluating")
    checkpoint = with_evaluation(checkpoint, _evaluate(job, checkpoint))
    job.events.emit("phase", phase="signing")
    save_checkpoint(job.out, _sign(job, checkpoint))


def _train(job: Job) -> tuple[Model, Run]:
    """The model after its last step, which is saved."""
    recipe, minutes = job.spec.recipe, job.spec.minutes
    torch.manual_seed(recipe.seed)
    model = first_model(recipe, job.data, job.out.parent).on(job.world.device)
    total = None if minutes is not None else recipe.training.steps
    run = Run(model.encoder, model.head, first_optimiser(recipe, model), np.random.default_rng(recipe.seed), total)
    if load_progress(job.out, recipe, run, job.world):
        job.events.emit("resumed", step=run.step)
    if run.step == run.total:
        return model, run
    loss = loss_of(recipe, model, job.data, job.world)
    validation = validation_of(recipe, model, job.data) if job.world.first else None

    def save() -> None:
        save_progress(job.out, recipe, run)

    watch = JobWatch(job.events, save, job.stop, validation, None if minutes is None else 60 * minutes)
    watch.begin(run)
    job.stop.waits = True
    descend(recipe, model, run, loss, watch, job.world)
    job.stop.waits = False
    return model, run


def _evaluate(job: Job, checkpoint: Checkpoint) -> list[EvaluationRow]:
    recipe, rows = job.spec.recipe, list[EvaluationRow]()
    assert recipe.data is not None
    found: Iterable[EvaluationRow]
    if recipe.training.scheme == "multitask":
        found = _rows_of_table(job, recipe.data.name, checkpoint)
    else:
        found = measure(checkpoint, recipe.evaluation, job.data)
    for row in found:
        job.events.emit("evaluated", **row.model_dump(mode="json"))
        rows.append(row)
    return rows


def _rows_of_table(job: Job, name: str, checkpoint: Checkpoint) -> Iterator[EvaluationRow]:
    """None where no rows are held out."""
    manifest = dataset_manifest(name, job.data)
    if manifest is not None and "test" in manifest.counts and not manifest.counts["test"].n_examples:
        return iter(())
    rows = load_table(name, "test", job.data, job.spec.recipe.seed)
    return measure_targets(checkpoint, rows, f"{job.spec.dataset_name} test")


def _sign(job: Job, checkpoint: Checkpoint) -> Checkpoint:
    """With its signature, where classes of pictures or texts are held out; norms of a task have no embeddings alone."""
    recipe = job.spec.recipe
    assert recipe.data is not None
    if recipe.input.modality == "vector" or checkpoint.encoder.statistic_names:
        return checkpoint
    try:
        pool = load_pool(recipe.data.name, "valid", job.data, recipe.input)
    except Invalid:  # the validation part is empty
        return checkpoint
    return signed(checkpoint, pool) if len(pool.classes) >= _LEAST_CLASSES else checkpoint


def _lineage(job: Job, recipe: Recipe, run: Run) -> Lineage:
    own = lineage_of(recipe, job.data, _COMMAND, run.step, run.seconds)
    settings = recipe.model_dump(mode="json", exclude={"description"})
    return own.model_copy(
        update={
            "parent": job.spec.base_checkpoint,
            "job": job.spec.job,
            "settings": settings,
        }
    )


if __name__ == "__main__":
    leave(main())
