"""The outer loop: a recipe and data in, a checkpoint out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import kshot
from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import DataSource, EvaluationRow, LearnerSpec, Lineage, Manifest
from kshot.contracts.recipe import Recipe
from kshot.encoders.base import Encoder
from kshot.encoders.conv4 import fold_batch_norm, without_batch_statistics
from kshot.encoders.hierarchy import Hierarchy
from kshot.encoders.mlp import Mlp
from kshot.encoders.registry import build_encoder
from kshot.learners.base import Learner
from kshot.learners.registry import get_learner
from kshot.training.data import describe
from kshot.training.losses import TaskLoss, task_loss
from kshot.training.multitask import first_heads, joint_loss
from kshot.training.progress import Run, drop_progress, load_progress, save_progress
from kshot.training.tables import TABLES, describe_table, training_table

_SAVES = 20
_REPORTS = 100

Report = Callable[[str], None]
TRAINING_ONLY = "training."
"""How the names begin of learned tensors beside the head's that no checkpoint keeps."""


class Unfinished(Exception):
    """The time given to a run is over; what it did is saved, and the same call goes on from there."""


@dataclass(frozen=True)
class Model:
    """What the outer loop moves: an encoder and a learner's head."""

    learner: Learner
    encoder: Encoder
    head: dict[str, Tensor]

    def parameters(self) -> list[Tensor]:
        """Everything that has a gradient."""
        return [p for p in (*self.encoder.parameters(), *self.head.values()) if p.requires_grad]


@dataclass(frozen=True)
class Prepared:
    """A model and the loss it is trained by."""

    model: Model
    loss: TaskLoss


def meta_train(
    recipe: Recipe,
    data: Path,
    out: Path,
    command: str,
    report: Report = print,
    minutes: float | None = None,
    prepared: Prepared | None = None,
) -> Checkpoint:
    """Meta-train a checkpoint and save it into ``out``, now and then on the way and at the end.

    A checkpoint saved on the way is whole and true: its lineage counts the steps it had. A run that was stopped goes on
    from its last save, as if it had not. ``command`` is recorded in the manifest. Raises Invalid where recipe and data
    do not fit, FloatingPointError where the loss is no longer finite, Unfinished once ``minutes`` have passed.
    ``prepared``: the model to start from and its loss, where they are not what the recipe alone says.
    """
    torch.manual_seed(recipe.seed)
    model = prepared.model if prepared else _start(recipe, data, out)
    run = Run(model.encoder, model.head, _optimiser(recipe, model), np.random.default_rng(recipe.seed))
    if load_progress(out, recipe, run):
        report(f"continuing after step {run.step}")

    def save() -> Checkpoint:
        save_progress(out, recipe, run)
        checkpoint = _checkpoint(recipe, model, _lineage(recipe, data, command, run.step, round(run.seconds, 1)))
        save_checkpoint(out, checkpoint)
        return checkpoint

    if recipe.training.steps:
        loss = prepared.loss if prepared else _loss(recipe, model, data)
        _descend(recipe, model, run, loss, save, report, minutes)
    finished = save()
    drop_progress(out)
    return finished


def with_evaluation(checkpoint: Checkpoint, rows: list[EvaluationRow]) -> Checkpoint:
    """The same checkpoint with another evaluation table."""
    manifest = checkpoint.manifest.model_copy(update={"evaluation": rows})
    return Checkpoint(manifest, checkpoint.encoder, checkpoint.head)


def _descend(
    recipe: Recipe,
    model: Model,
    run: Run,
    loss: TaskLoss,
    save: Callable[[], Checkpoint],
    report: Report,
    minutes: float | None,
) -> None:
    training = recipe.training
    model.encoder.train(training.scheme in {"folded", "multitask"})
    report_every, save_every = (max(1, training.steps // parts) for parts in (_REPORTS, _SAVES))
    recent, since, earlier, started = [], time.perf_counter(), run.seconds, time.perf_counter()
    while run.step < training.steps:
        done = run.step / training.steps
        for group in run.optimiser.param_groups:
            group["lr"] = training.lr * 0.5 * (1 + math.cos(math.pi * done))
        value = loss(run.rng, done)
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the meta-loss is not finite at step {run.step + 1}")
        run.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if training.max_gradient is not None:
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient)
        run.optimiser.step()
        run.step += 1
        run.seconds = earlier + time.perf_counter() - started
        recent.append(value.item())
        if run.step % report_every == 0:
            pace = len(recent) / (time.perf_counter() - since)
            report(f"step {run.step}/{training.steps}  loss {np.mean(recent):.4f}  {pace:.2f} steps/s")
            recent, since = [], time.perf_counter()
        if run.step % save_every == 0:
            save()
        if minutes is not None and time.perf_counter() - started > 60 * minutes and run.step < training.steps:
            save()
            raise Unfinished(f"stopped after {run.step} of {training.steps} steps; the same command goes on")


def _optimiser(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    if not model.parameters():
        return torch.optim.SGD([torch.zeros(())])
    if recipe.training.weight_decay:
        return torch.optim.AdamW(model.parameters(), recipe.training.lr, weight_decay=recipe.training.weight_decay)
    kind = torch.optim.Adam if recipe.training.optimiser == "adam" else torch.optim.SGD
    return kind(model.parameters(), recipe.training.lr)


def _loss(recipe: Recipe, model: Model, data: Path) -> TaskLoss:
    table = training_table(recipe, data)
    if table is not None and recipe.training.scheme == "multitask":
        return joint_loss(recipe, model.encoder, model.head, table)
    return task_loss(recipe, model.learner, model.encoder, model.head, data)


def _start(recipe: Recipe, data: Path, out: Path) -> Model:
    learner = get_learner(recipe.learner.name)
    encoder = build_encoder(recipe.encoder, recipe.input)
    if recipe.start is not None:
        encoder.load_state_dict(_inherited(recipe, load_checkpoint(out.parent / recipe.start.parent).encoder))
    generator = torch.Generator().manual_seed(recipe.seed)
    table = training_table(recipe, data)
    if table is not None and isinstance(encoder, Hierarchy | Mlp):
        encoder.standardise_on(torch.as_tensor(table.inputs))
    if table is not None and recipe.training.scheme == "multitask":
        return Model(learner, encoder, first_heads(recipe, encoder, table, generator))
    head = learner.init_head(encoder, recipe.tasks[0], recipe.n_targets, generator, recipe.learner.options)
    return Model(learner, encoder, {name: nn.Parameter(tensor) for name, tensor in head.items()})


def _inherited(recipe: Recipe, parent: Encoder) -> dict[str, Tensor]:
    """The parent's tensors as the recipe's encoder names them."""
    state = parent.state_dict()
    match recipe.encoder.options.get("norm"):
        case "affine":
            return fold_batch_norm(state, recipe.start.gain if recipe.start else 1.0)
        case "task":
            return without_batch_statistics(state)
        case _:
            return state


def _checkpoint(recipe: Recipe, model: Model, lineage: Lineage) -> Checkpoint:
    encoder = build_encoder(recipe.encoder, recipe.input)
    encoder.load_state_dict(model.encoder.state_dict())
    manifest = Manifest(
        name=recipe.name,
        description=recipe.description,
        tasks=recipe.tasks,
        input=recipe.input,
        encoder=recipe.encoder,
        learner=LearnerSpec(name=recipe.learner.name, options=recipe.learner.options),
        n_targets=recipe.n_targets,
        lineage=lineage,
    )
    kept = {name: tensor for name, tensor in model.head.items() if not name.startswith(TRAINING_ONLY)}
    return Checkpoint(manifest, encoder.eval(), {name: tensor.detach().clone() for name, tensor in kept.items()})


def _sources(recipe: Recipe, data: Path) -> list[DataSource]:
    if recipe.data is None:
        return []
    if recipe.data.name in TABLES:
        return [describe_table(recipe.data.name, recipe.data.split, data, recipe.seed)]
    source = describe(recipe.data.name, recipe.data.split, data, recipe.input)
    return [source.model_copy(update={"n_classes": recipe.data.classes or source.n_classes})]


def _lineage(recipe: Recipe, data: Path, command: str, step: int, seconds: float) -> Lineage:
    return Lineage(
        command=command,
        code_version=kshot.__version__,
        created_at=datetime.now(UTC).replace(microsecond=0),
        data=_sources(recipe, data),
        parent=recipe.start.parent if recipe.start else None,
        seed=recipe.seed,
        steps=step,
        seconds=seconds,
    )
