"""Recorded tasks: what callers of the service adapted to, as data to meta-train on. One safetensors file holds many.

Tasks of one file are of one kind, and their inputs are canonical and of one shape. Header: ``tasks``, a list of
``{id, classes, rows, models}``, in the order of their rows. Arrays: ``inputs`` (n, ...), or ``text`` (all of it in
UTF-8) with ``text_ends``; ``targets``, int64 (n,) class numbers within the task, or float32 (n, n_targets).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter

from kshot.contracts.checkpoints import Stored
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array, Inputs, header_of, pack, peek, unpack
from kshot.episodes.pool import Pool, select_classes
from kshot.episodes.tables import Table, Target
from kshot.inputs import input_shape


@dataclass(frozen=True)
class RecordedTask:
    """``inputs``: canonical, n of them. Either ``labels``, n of them, or ``values``: float32 (n, n_targets).
    ``models``: the adapted models whose examples are in it."""

    id: str
    inputs: Inputs
    labels: Sequence[str] | None = None
    values: Array | None = None
    models: Sequence[str] = ()


class _Listed(Stored):
    """A task as the header lists it."""

    id: str
    classes: tuple[str, ...]
    rows: Annotated[int, Field(ge=0)]
    models: tuple[str, ...] = ()


_TASKS = TypeAdapter(list[_Listed])
_WHAT = "a file of recorded tasks"


@dataclass(frozen=True)
class RecordedSize:
    """How many examples a task of a file has, and each of its classes (none where it predicts numbers)."""

    id: str
    n_examples: int
    classes: tuple[int, ...]


def write_recorded(file: Path, tasks: Sequence[RecordedTask]) -> None:
    """Raises Invalid where the tasks do not fit together: another kind, another shape of input, or none at all."""
    if not tasks:
        raise Invalid("no tasks were recorded yet")
    if len({_form(task) for task in tasks}) > 1:
        raise Invalid("recorded tasks of different kinds or shapes do not fit into one data set")
    arrays: dict[str, Array] = {"targets": np.concatenate([_targets(task) for task in tasks])}
    if isinstance(tasks[0].inputs, list):
        encoded = [text.encode() for task in tasks for text in task.inputs]
        arrays["text"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays["text_ends"] = np.cumsum([len(text) for text in encoded])
    else:
        arrays["inputs"] = np.concatenate([task.inputs for task in tasks])
    listed = [
        {"id": task.id, "classes": _classes(task), "rows": len(task.inputs), "models": list(task.models)}
        for task in tasks
    ]
    file.write_bytes(pack({"tasks": listed}, arrays))


def recorded_models(file: Path) -> list[str]:
    """The adapted models whose examples a file holds, read from its header alone. Invalid: it is no such file."""
    with file.open("rb") as opened:
        length = opened.read(8)
        header = peek(length + opened.read(min(int.from_bytes(length, "little"), file.stat().st_size)))
    with header_of(_WHAT):
        return [model for task in _TASKS.validate_python(header["tasks"]) for model in task.models]


def measure_recorded(file: Path) -> tuple[list[RecordedSize], tuple[int, ...]]:
    """What a file holds, in its order, and the shape of an input. Raises Invalid where it is no such file."""
    listed, inputs, targets = _read(file)
    sizes, start = list[RecordedSize](), 0
    for task in listed:
        own = targets[start : start + task.rows]
        classes = () if targets.ndim == 2 else tuple(np.bincount(own, minlength=len(task.classes)).tolist())
        sizes.append(RecordedSize(task.id, len(own), classes))
        start += len(own)
    return sizes, input_shape(inputs)


def recorded_ids(file: Path) -> list[str]:
    """Ids of the tasks of a file, in its order. Raises Invalid where it is no such file."""
    return [task.id for task in _read(file)[0]]


def read_recorded_pool(file: Path, wanted: Sequence[str]) -> Pool:
    """The ``wanted`` tasks as a pool: each task is a group, its classes are ``<task id>/<label>``.

    Raises Invalid where the file holds no tasks of classification.
    """
    listed, inputs, targets = _read(file)
    if targets.ndim != 1:
        raise Invalid("these recorded tasks predict numbers; they have no classes")
    start, classes, rows, groups = 0, list[str](), list[Array](), list[tuple[int, ...]]()
    for task in listed:
        own = targets[start : start + task.rows]
        groups.append(tuple(range(len(classes), len(classes) + len(task.classes))))
        rows += [start + np.flatnonzero(own == number) for number in range(len(task.classes))]
        classes += [f"{task.id}/{label}" for label in task.classes]
        start += task.rows
    kept = set(wanted)
    chosen = [group for task, group in zip(listed, groups, strict=True) if task.id in kept]
    everything = Pool(inputs, tuple(classes), tuple(rows), tuple(groups))
    return select_classes(everything, [classes[index] for group in chosen for index in group])


def read_recorded_table(file: Path, wanted: Sequence[str]) -> Table:
    """The ``wanted`` tasks as a table of numbers: each task is a group. Raises Invalid where the file holds others."""
    listed, inputs, targets = _read(file)
    if targets.ndim != 2 or isinstance(inputs, list):
        raise Invalid("these recorded tasks do not predict numbers from numbers")
    groups = np.repeat(np.arange(len(listed)), [task.rows for task in listed])
    chosen = set(wanted)
    kept = np.flatnonzero(np.isin(groups, [i for i, task in enumerate(listed) if task.id in chosen]))
    names = tuple(Target(f"target {number}", "regression") for number in range(1, targets.shape[1] + 1))
    return Table(inputs[kept], names, targets[kept], groups[kept])


def _form(task: RecordedTask) -> tuple[Any, ...]:
    """What must be alike in all tasks of a file."""
    inputs = task.inputs
    shape = ("text",) if isinstance(inputs, list) else (inputs.dtype.str, *inputs.shape[1:])
    return (shape, None if task.values is None else task.values.shape[1])


def _classes(task: RecordedTask) -> list[str]:
    return [] if task.labels is None else sorted(set(task.labels))


def _targets(task: RecordedTask) -> Array:
    if task.labels is None:
        assert task.values is not None
        return task.values.astype(np.float32)
    number = {label: position for position, label in enumerate(_classes(task))}
    return np.array([number[label] for label in task.labels], np.int64)


def _read(file: Path) -> tuple[list[_Listed], Inputs, Array]:
    """The list of tasks, all inputs and all targets."""
    try:
        header, arrays = unpack(file.read_bytes())
    except OSError as error:
        raise Invalid(f"not {_WHAT}") from error
    with header_of(_WHAT):
        listed = _TASKS.validate_python(header["tasks"])
        inputs = arrays["inputs"] if "inputs" in arrays else _texts(arrays)
        targets = arrays["targets"]
        if not len(inputs) == len(targets) == sum(task.rows for task in listed):
            raise Invalid("the file of recorded tasks does not agree with itself")
        _check_targets(listed, targets)
    return listed, inputs, targets


def _check_targets(listed: Sequence[_Listed], targets: Array) -> None:
    """Class numbers name classes: memory is made for as many as the largest says. Raises Invalid."""
    if targets.ndim == 2 and targets.dtype == np.float32:
        return
    if targets.ndim != 1 or targets.dtype != np.int64:
        raise Invalid("the targets of recorded tasks are class numbers, or rows of numbers")
    n_classes = np.repeat([len(task.classes) for task in listed], [task.rows for task in listed])
    if ((targets < 0) | (targets >= n_classes)).any():
        raise Invalid("the file of recorded tasks names a class that it does not list")


def _texts(arrays: dict[str, Array]) -> list[str]:
    whole, ends = arrays["text"].tobytes(), arrays["text_ends"].tolist()
    return [whole[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
