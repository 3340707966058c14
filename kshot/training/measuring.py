"""The rows of a checkpoint's evaluation table, as its recipe asks for them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import EvaluationTask
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.encoders.base import Encoder
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.episodes.tables import Table, Target, sample_group, with_groups_of
from kshot.metrics import mean_interval
from kshot.training.data import dataset_manifest, draws_sinusoids, load_pool
from kshot.training.evaluation import evaluate
from kshot.training.multitask import trained_answers
from kshot.training.precompute import embedded
from kshot.training.tables import holds_table, load_table

_SEED = 20_000


def measure(checkpoint: Checkpoint, tasks: Sequence[EvaluationTask], data: Path) -> Iterator[EvaluationRow]:
    """Row by row. An encoder sees each input once where that is enough, however many rows ask for it.

    Rows of recorded tasks that are too few or too small to draw from are left out, and those that shrink to the same as
    one before; others raise Invalid.
    """
    known: dict[tuple[str, str], tuple[Encoder, Pool]] = {}
    seen = set[tuple[str, int | None, int]]()
    for task in tasks:
        manifest = dataset_manifest(task.data, data)
        recorded = manifest is not None and manifest.format == "recorded_tasks"
        try:
            row = _measure(checkpoint, task, data, known)
        except Invalid:
            if recorded:
                continue
            raise
        place = (row.data, row.n_way, row.k_shot)
        if not (recorded and place in seen):
            seen.add(place)
            yield row


def measure_targets(checkpoint: Checkpoint, table: Table, data: str) -> Iterator[EvaluationRow]:
    """A row for each target of a table, from the head that was trained for it: ``k_shot`` 0, a row is an episode."""
    answers = trained_answers(checkpoint, table.targets, table.inputs)
    for target, values in zip(table.targets, table.values.T, strict=True):
        present = np.flatnonzero(~np.isnan(values))
        if len(present) < 2:
            continue
        scores = _scores(target, answers[target.name][present].cpu().numpy(), values[present])
        found = mean_interval(scores)
        yield EvaluationRow(
            data=f"{data} {target.name}",
            n_way=target.n_way,
            k_shot=0,
            metric="accuracy" if target.kind == "classification" else "mse",
            mean=found.mean,
            interval=found.interval,
            episodes=len(present),
        )


def groups_of(table: Table, k_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks from the groups that have more rows than ``k_shot``. Raises Invalid where none has."""
    enough, rng = with_groups_of(table, k_shot + 1), np.random.default_rng(seed)
    while True:
        yield sample_group(enough, k_shot, n_query, rng)


def _measure(
    checkpoint: Checkpoint, task: EvaluationTask, data: Path, known: dict[tuple[str, str], tuple[Encoder, Pool]]
) -> EvaluationRow:
    manifest, options = dataset_manifest(task.data, data), LearnerOptions.model_validate(task.options)
    name = f"{manifest.name if manifest else task.data} {task.split}"
    if draws_sinusoids(task.data, data):
        tasks = sinusoids(task.k_shot, task.n_query, _SEED)
        return evaluate(checkpoint, name, tasks, task.episodes, options)
    if holds_table(task.data, data):
        table = load_table(task.data, task.split, data, checkpoint.manifest.lineage.seed)
        tasks = groups_of(table, _shots(table, task.k_shot) if manifest else task.k_shot, task.n_query, _SEED)
        return evaluate(checkpoint, name, tasks, task.episodes, options)
    if task.n_way is None:
        raise Invalid("an evaluation row on classes needs n_way")
    place = (task.data, task.split)
    if place not in known:
        pool = load_pool(task.data, task.split, data, checkpoint.manifest.input)
        known[place] = embedded(checkpoint, pool)
    encoder, pool = known[place]
    shape = _fitted(pool, EpisodeShape(task.n_way, task.k_shot, task.n_query))
    shortened = Checkpoint(checkpoint.manifest, encoder, checkpoint.head)
    return evaluate(shortened, name, episodes(pool, shape, _SEED), task.episodes, options)


def _fitted(pool: Pool, shape: EpisodeShape) -> EpisodeShape:
    """Of recorded tasks, whose sizes no planning knows: the shape as half of them can give it, two at least. Each has
    its own number of classes, and an episode no more than its task has (kshot.episodes.sampling)."""
    if pool.groups is None:
        return shape
    seconds = [sorted((len(pool.rows[index]) for index in group), reverse=True)[1:2] for group in pool.groups]
    per_class = _of_half([own[0] if own else 0 for own in seconds])
    k_shot = min(shape.k_shot, per_class - 1)
    return EpisodeShape(shape.n_way, k_shot, min(shape.n_query, per_class - k_shot))


def _shots(table: Table, k_shot: int) -> int:
    """The same of recorded tasks of numbers, which leave a row to ask at least."""
    sizes: list[int] = np.unique(table.groups, return_counts=True)[1].tolist()
    return min(k_shot, _of_half(sizes) - 1)


def _of_half(sizes: Sequence[int]) -> int:
    """What at least half of them are, two of them at least; never below 2."""
    enough = min(len(sizes), max(2, (len(sizes) + 1) // 2))
    return max(2, sorted(sizes, reverse=True)[enough - 1])


def _scores(target: Target, answers: Array, truth: Array) -> Array:
    """Of each row: whether its class is right, or its squared error. ``answers``: (n, C) or (n, 1)."""
    if target.kind == "classification":
        right: Array = (answers.argmax(1) == truth).astype(np.float64)
        return right
    squared: Array = np.square(answers[:, 0].astype(np.float64) - truth)
    return squared
