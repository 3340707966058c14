"""Labels -> targets: which kind of task they mean, and the arrays a learner takes."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kshot.contracts.checkpoints import Manifest, TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import possible_tasks
from kshot.contracts.tasks import MAX_TARGETS, Label, LearnerOptions
from kshot.contracts.wire import Array

PARAM = "support.labels"
_MAX_LABEL_CHARS = 200
_INT64 = 2**63
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def choose_task(
    manifest: Manifest, learner: str, options: LearnerOptions, labels: Sequence[object], *, named: bool = False
) -> TaskKind:
    """The kind of task: the caller's word, else the only kind possible, else what the labels look like.

    Floats and lists mean regression; strings and integers (and names of multipart parts) mean classes.
    """
    possible = possible_tasks(manifest, learner)
    check_single(options)
    if options.task is not None:
        if options.task not in possible:
            raise Invalid(f"this checkpoint does {' and '.join(possible)} with {learner}", param="options.task")
        return options.task
    if not possible:
        raise Invalid(f"{learner} does none of this checkpoint's tasks", param="options.learner")
    if len(possible) == 1:
        _check_kind(possible[0], manifest.name if len(manifest.tasks) == 1 else learner, labels, named)
        return possible[0]
    return look_of(labels, named=named)


def check_single(options: LearnerOptions) -> None:
    """Raises Invalid for options that speak of several targets."""
    for param in ("targets", "task"):
        if getattr(options, param) not in (None, "classification", "regression"):
            form = "objects such as {target: value or null}, in JSON or in the header of a safetensors body"
            raise Invalid(f"several targets need labels that are {form}", param=f"options.{param}")


def look_of(labels: Sequence[object], *, named: bool = False) -> TaskKind:
    """What labels of one target look like."""
    return "regression" if not named and any(isinstance(label, float | list) for label in labels) else "classification"


def class_targets(
    labels: Sequence[object], max_ways: int, known: Sequence[Label] = ()
) -> tuple[Array, tuple[Label, ...]]:
    """Labels as int64 (n,) indices into the classes: those ``known`` before, then new ones as they appear."""
    classes: dict[Label, int] = {label: k for k, label in enumerate(known)}
    targets = [classes.setdefault(class_label(label, f"{PARAM}[{i}]"), len(classes)) for i, label in enumerate(labels)]
    if len({type(label) for label in classes}) > 1:
        raise Invalid("labels must be all strings or all integers", param=PARAM)
    if len(classes) < 2:
        raise Invalid("classification needs examples of at least 2 classes", param=PARAM)
    if len(classes) > max_ways:
        raise Invalid(f"{len(classes)} classes; at most {max_ways} are allowed", param=PARAM)
    return np.array(targets, dtype=np.int64), tuple(classes)


def class_label(label: object, param: str) -> Label:
    """One label that names a class. Raises Invalid naming ``param``."""
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise Invalid("expected a string or an integer", param=param)
    if isinstance(label, int):
        if not -_INT64 <= label < _INT64:
            raise Invalid("an integer label must fit 64 bits", param=param)
    elif not 0 < len(label) <= _MAX_LABEL_CHARS or "\x00" in label:
        raise Invalid(f"a label has 1 to {_MAX_LABEL_CHARS} characters, none of them NUL", param=param)
    return label


def as_known(names: Sequence[object], known: Sequence[Label]) -> list[object]:
    """Names of multipart parts, which are strings, as integers where the classes known before are integers."""
    if not known or isinstance(known[0], str):
        return list(names)
    return [int(str(name)) if _INTEGER.fullmatch(str(name)) else name for name in names]


def number_targets(labels: Sequence[object], n_targets: int | None, *, named: bool = False) -> Array:
    """Labels as float32 (n, n_targets): numbers, or equally long lists of them; names of parts are read as numbers."""
    rows = [_row(_parsed(label, i) if named else label, i) for i, label in enumerate(labels)]
    width = n_targets or len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != width or width > MAX_TARGETS:
            expected = f"{min(width, MAX_TARGETS)} numbers" if width > 1 else "a number"
            raise Invalid(f"{len(row)} numbers; expected {expected}", param=f"{PARAM}[{i}]")
    try:
        with np.errstate(over="ignore"):
            targets = np.array(rows, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise Invalid("a number is too large for a 32-bit float", param=PARAM) from None
    finite = np.isfinite(targets).all(axis=1)
    if not finite.all():
        raise Invalid("every number must be finite and fit a 32-bit float", param=f"{PARAM}[{int(finite.argmin())}]")
    return targets


def k_shot(targets: Array, classes: Sequence[Label]) -> list[int]:
    """Support rows per class, in the order of ``classes``; empty for regression."""
    counted = Counter(targets.tolist()) if classes else Counter()
    return [counted[i] for i in range(len(classes))]


def _check_kind(task: TaskKind, who: str, labels: Sequence[object], named: bool) -> None:
    """Labels that mean the other kind of task than the only one ``who`` does get an answer that says so."""
    for i, label in enumerate(labels):
        if task == "classification" and isinstance(label, float | list):
            raise Invalid(f"{who} only classifies: labels must be strings or integers", param=f"{PARAM}[{i}]")
        if task == "regression" and isinstance(label, str) and not named:
            message = f"{who} only predicts numbers: labels must be numbers or lists of numbers"
            raise Invalid(message, param=f"{PARAM}[{i}]")


def _row(label: object, i: int) -> list[int | float]:
    row: list[Any] = label if isinstance(label, list) else [label]
    if not row or not all(type(value) in (int, float) for value in row):
        raise Invalid("expected a number or a list of numbers", param=f"{PARAM}[{i}]")
    return row


def _parsed(label: object, i: int) -> float:
    try:
        return float(str(label))
    except ValueError:
        raise Invalid("expected a number", param=f"{PARAM}[{i}]") from None
