"""Recorded tasks -> one file of a data set: each family of support sets is a task, its feedback among the examples."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import InputSpec, VectorInput
from kshot.contracts.datasets import DatasetManifest, PartCount
from kshot.contracts.errors import Invalid
from kshot.contracts.following import fits
from kshot.contracts.tasks import Payload, SupportSet
from kshot.contracts.wire import Inputs
from kshot.episodes.recorded import RecordedTask, measure_recorded, write_recorded
from kshot.episodes.splits import split_tasks
from kshot.inputs import input_shape
from kshot.storage.recorded import RecordedModel, read_recorded_models

MAX_TASKS = 20_000
MAX_BYTES = 1 << 30
"""Of all tasks together: the file is made, and read, in memory."""
_PAGE_BYTES = 32 << 20
_LEAST = 3


@dataclass
class _Family:
    """Support sets that grew from one another, or are equal: the largest stands for all, with the feedback on all.
    ``models``: the adapted models they are of."""

    largest: SupportSet
    models: list[str] = field(default_factory=list)
    told: list[SupportSet] = field(default_factory=list)


async def collect(database: AsyncEngine, manifest: DatasetManifest, file: Path) -> None:
    """Write the tasks that ``manifest.recorded`` speaks of to ``file``. Raises Invalid: too few, or too many."""
    found = await _families(database, manifest)
    recorded = await asyncio.to_thread(_tasks, found)
    if len(recorded) < _LEAST:
        message = f"{len(recorded)} tasks are recorded, and training, validation and test need one each at least"
        raise Invalid(f"{message}; let more tasks be recorded first", param="dataset")
    await asyncio.to_thread(write_recorded, file, recorded)


def counted(manifest: DatasetManifest, file: Path, sha256: str) -> DatasetManifest:
    """The manifest with what the file holds."""
    sizes, shape = measure_recorded(file)
    rows = {size.id: size.n_examples for size in sizes}
    split = split_tasks([size.id for size in sizes], manifest.shares, manifest.seed)
    found = {
        "sha256": sha256,
        "counts": {part: PartCount(n_examples=sum(rows[one] for one in chosen)) for part, chosen in split.items()},
        "n_examples": sum(rows.values()),
        "smallest": min((n for size in sizes for n in size.classes), default=None),
        "width": shape[0] if isinstance(manifest.input, VectorInput) else manifest.width,
    }
    return manifest.model_copy(update=found)


async def _families(database: AsyncEngine, manifest: DatasetManifest) -> dict[str, _Family]:
    """All recorded tasks whose inputs have the form of the data set, by family."""
    assert manifest.recorded is not None and manifest.input is not None
    found: dict[str, _Family] = {}
    after, n_bytes = "", 0
    while True:
        async with database.connect() as connection:
            page = await read_recorded_models(connection, manifest.recorded, manifest.task, after, _PAGE_BYTES)
        if not page:
            return found
        after = page[-1].id
        n_bytes += sum(len(model.payload) + sum(map(len, model.feedback)) for model in page)
        await asyncio.to_thread(_add, found, page, manifest.input)
        if len(found) > MAX_TASKS or n_bytes > MAX_BYTES:
            message = f"more than {MAX_TASKS} tasks or {MAX_BYTES} bytes are recorded"
            raise Invalid(f"{message}; name fewer tenants, or keep them for a shorter time", param="dataset")


def _add(found: dict[str, _Family], page: Sequence[RecordedModel], wanted: InputSpec) -> None:
    for model in page:
        support = Payload.decode(model.payload).support
        if support is None or not fits(model.form, wanted, input_shape(support.inputs)):
            continue
        family = found.setdefault(model.family, _Family(support))
        family.models.append(model.id)
        if len(support) > len(family.largest):
            family.largest = support
        family.told += [told for told in (Payload.decode(one).support for one in model.feedback) if told is not None]


def _tasks(found: dict[str, _Family]) -> list[RecordedTask]:
    """As tasks of one shape of input: of vectors of several widths the most common one, of several targets too."""
    tasks = [_task(name, family) for name, family in sorted(found.items())]
    shapes = Counter(_shape(task) for task in tasks)
    return [task for task in tasks if _shape(task) == shapes.most_common(1)[0][0]]


def _task(id: str, family: _Family) -> RecordedTask:
    """The examples of a family and its feedback, each row once; feedback on classes that are gone is left out."""
    sets = [family.largest, *(told for told in family.told if _alike(told, family.largest))]
    rows: dict[tuple[bytes, str], tuple[SupportSet, int]] = {}
    for one in sets:
        for i in range(len(one)):
            rows.setdefault(_row_key(one, i), (one, i))
    kept, first = list(rows.values()), family.largest
    inputs: Inputs
    if isinstance(first.inputs, list):
        inputs = [one.inputs[i] for one, i in kept if isinstance(one.inputs, list)]
    else:
        inputs = np.stack([np.asarray(one.inputs[i]) for one, i in kept])
    if first.task == "regression":
        values = np.stack([one.targets[i] for one, i in kept])
        return RecordedTask(id, inputs, values=values, models=family.models)
    labels = [str(one.classes[int(one.targets[i])]) for one, i in kept]
    return RecordedTask(id, inputs, labels, models=family.models)


def _alike(told: SupportSet, first: SupportSet) -> bool:
    if input_shape(told.inputs) != input_shape(first.inputs) or told.targets.shape[1:] != first.targets.shape[1:]:
        return False
    return set(told.classes) <= set(first.classes)


def _row_key(support: SupportSet, i: int) -> tuple[bytes, str]:
    """What makes two rows the same: input and label."""
    row = support.inputs[i]
    content = row.encode() if isinstance(row, str) else row.tobytes()
    if support.task == "regression":
        return content, support.targets[i].tobytes().hex()
    return content, str(support.classes[int(support.targets[i])])


def _shape(task: RecordedTask) -> tuple[int, ...]:
    width = () if task.values is None else task.values.shape[1:]
    return (*input_shape(task.inputs), -1, *width)
