"""Labels that are objects, `{target: value or null}`, -> one column of numbers for each target."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import MAX_TARGET_NAME_CHARS, MAX_TARGETS, CountedTarget, Label, TargetKind, TargetSpec
from kshot.contracts.wire import Array
from service.labels import PARAM, class_label

Rows = Sequence[Mapping[str, object]]


def is_joint(labels: Sequence[object]) -> bool:
    """Whether these labels speak of several targets."""
    return any(isinstance(label, dict) for label in labels)


def joint_targets(
    labels: Sequence[object],
    max_ways: int,
    *,
    kinds: Mapping[str, TargetKind] | None = None,
    integers: TargetKind = "classification",
    known: Sequence[TargetSpec] = (),
) -> tuple[Array, tuple[TargetSpec, ...]]:
    """Labels as float32 (n, T), NaN where a row lacks the target, and what the T columns mean.

    ``kinds``: what the caller says of targets (`options.targets`); of the others strings mean classes, numbers with a
    point values, and integers alone what ``integers`` says. ``known``: the columns of examples before, which come
    first and keep their kind and classes; new ones follow by name. Raises Invalid naming row and target.
    """
    rows = _rows(labels)
    names = _names(rows, known)
    _check_kinds_named(kinds or {}, names)
    before = {spec.name: spec for spec in known}
    columns: list[Array] = []
    specs: list[TargetSpec] = []
    for name in names:
        kind = before[name].kind if name in before else (kinds or {}).get(name)
        column, spec = _column(rows, name, kind, integers, before.get(name), max_ways)
        columns.append(column)
        specs.append(spec)
    return np.stack(columns, axis=1), tuple(specs)


def count_targets(targets: Array, columns: Sequence[TargetSpec]) -> tuple[CountedTarget, ...]:
    """Each target with the number of rows that have it, and of rows per class."""
    return tuple(_counted(targets[:, i], spec) for i, spec in enumerate(columns))


def widened(targets: Array, n_targets: int) -> Array:
    """The same rows with as many columns: none of them has the targets that came later."""
    missing = np.full((len(targets), n_targets - targets.shape[1]), np.nan, dtype=np.float32)
    return np.concatenate([targets, missing], axis=1)


def _counted(column: Array, spec: TargetSpec) -> CountedTarget:
    present = column[~np.isnan(column)]
    counts = Counter(present.astype(int).tolist()) if spec.classes else Counter()
    return CountedTarget(
        name=spec.name,
        kind=spec.kind,
        classes=spec.classes,
        n_examples=len(present),
        k_shot=tuple(counts[k] for k in range(len(spec.classes))),
    )


def _rows(labels: Sequence[object]) -> Rows:
    rows: list[Mapping[str, object]] = []
    for i, label in enumerate(labels):
        if not isinstance(label, dict) or not isinstance(labels[0], dict):
            odd = next((j for j, other in enumerate(labels) if type(other) is not type(labels[0])), i)
            message = "labels are all objects such as {target: value or null}, or none is; this one differs"
            raise Invalid(message, param=f"{PARAM}[{odd}]")
        if all(value is None for value in label.values()):
            message = "this example has a value for no target; give at least one, or leave the example out"
            raise Invalid(message, param=f"{PARAM}[{i}]")
        rows.append(label)
    return rows


def _names(rows: Rows, known: Sequence[TargetSpec]) -> list[str]:
    """Those known, then the others by name: the order of an object's keys means nothing."""
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        for name in row:
            first.setdefault(name, i)
    for name, i in first.items():
        if not 0 < len(name) <= MAX_TARGET_NAME_CHARS:
            raise Invalid(f"the name of a target has 1 to {MAX_TARGET_NAME_CHARS} characters", param=f"{PARAM}[{i}]")
    before = [spec.name for spec in known]
    names = [*before, *sorted(set(first) - set(before))]
    if len(names) > MAX_TARGETS:
        raise Invalid(f"{len(names)} targets; at most {MAX_TARGETS} are allowed", param=PARAM)
    return names


def _check_kinds_named(kinds: Mapping[str, TargetKind], names: Sequence[str]) -> None:
    for name in kinds:
        if name not in names:
            raise Invalid("no label has this target", param=f"options.targets.{name}")


def _column(
    rows: Rows, name: str, kind: TargetKind | None, integers: TargetKind, known: TargetSpec | None, max_ways: int
) -> tuple[Array, TargetSpec]:
    present = {i: row[name] for i, row in enumerate(rows) if row.get(name) is not None}
    if not present and known is None:
        i = next(i for i, row in enumerate(rows) if name in row)
        raise Invalid("no example has a value for this target; leave it out", param=_place(i, name))
    kind = kind or _kind(present, name, integers)
    column = np.full(len(rows), np.nan, dtype=np.float32)
    if kind == "regression":
        for i, value in present.items():
            column[i] = _number(value, i, name)
        return column, TargetSpec(name=name, kind=kind)
    classes: dict[Label, int] = {label: k for k, label in enumerate(known.classes if known else ())}
    for i, value in present.items():
        column[i] = classes.setdefault(class_label(value, _place(i, name)), len(classes))
    _check_classes(list(classes), present, name, max_ways)
    return column, TargetSpec(name=name, kind=kind, classes=tuple(classes))


def _kind(present: Mapping[int, object], name: str, integers: TargetKind) -> TargetKind:
    """What a target's values look like; all must look alike."""
    kinds: dict[type, int] = {}
    for i, value in present.items():
        if type(value) not in (str, int, float):
            message = "expected a string, a number or null: a target has one plain value in each example"
            raise Invalid(message, param=_place(i, name))
        kinds.setdefault(type(value), i)
    if str in kinds and len(kinds) > 1:
        i = max(kinds.values())
        raise Invalid("a target's values are all strings or all numbers; this one differs", param=_place(i, name))
    if str in kinds:
        return "classification"
    return "regression" if float in kinds else integers


def _number(value: Any, i: int, name: str) -> np.float32:
    if type(value) not in (int, float):
        raise Invalid("expected a number or null, as in the other examples", param=_place(i, name))
    try:
        with np.errstate(over="ignore"):
            number = np.float32(value)
    except OverflowError:
        number = np.float32("inf")
    if not np.isfinite(number):
        raise Invalid("every number must be finite and fit a 32-bit float", param=_place(i, name))
    return number


def _check_classes(classes: Sequence[Label], present: Mapping[int, object], name: str, max_ways: int) -> None:
    i = next(iter(present), 0)
    odd = next((row for row, label in present.items() if type(label) is not type(classes[0])), None)
    if odd is not None:
        raise Invalid("a target's classes are all strings or all integers; this one differs", param=_place(odd, name))
    if len(classes) < 2:
        remedy = "; if these are numbers, say so in options.targets" if isinstance(classes[0], int) else ""
        message = f"a target needs examples of at least 2 classes, and this one has 1{remedy}"
        raise Invalid(message, param=_place(i, name))
    if len(classes) > max_ways:
        raise Invalid(f"{len(classes)} classes; at most {max_ways} are allowed", param=_place(i, name))


def _place(i: int, name: str) -> str:
    return f"{PARAM}[{i}].{name}"
