"""Uploaded tables: a CSV file with several columns to predict, some of them blank in some rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kshot.contracts.datasets import Columns
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array
from kshot.episodes.rows import check_label, fault, open_csv, quoted, storable
from kshot.episodes.tables import Table, Target
from kshot.episodes.vectors import Numbers

_MOST_CLASSES = 200
"""Of a target: a head has a row for each."""


def read_table_csv(source: bytes | Path, columns: Columns) -> Table:
    """A table from UTF-8 CSV: ``columns.targets`` to predict, ``columns.group`` if any, all others numbers to predict
    from. Rows without any target are left out; without a group column, each row is its own group.

    Raises Invalid where a column is missing, an input is no number, a target of regression neither number nor blank,
    or a class alone in its target.
    """
    with open_csv(source) as file:
        targets = [file.place(name, f"columns.targets.{name}", "name columns of the file") for name in columns.targets]
        group = None if columns.group is None else file.place(columns.group, "columns.group")
        inputs = [at for at in range(len(file.header)) if at not in targets and at != group]
        numbers = Numbers(len(inputs))
        values: list[list[str]] = []
        groups: list[str] = []
        for number, row in _with_a_target(file.rows, targets):
            numbers.add(number, [row[at] for at in inputs])
            values.append([storable(row[at].strip(), number) for at in targets])
            groups.append(str(number) if group is None else check_label(row[group], number))
    found = numbers.array()
    parsed = [
        _column(Target(name, kind), [row[i] for row in values], numbers.numbers)
        for i, (name, kind) in enumerate(columns.targets.items())
    ]
    return Table(
        found,
        tuple(target for target, _ in parsed),
        np.stack([column for _, column in parsed], axis=1),
        np.unique(groups, return_inverse=True)[1].reshape(-1),
    )


def _with_a_target(rows: Iterator[tuple[int, list[str]]], targets: list[int]) -> Iterator[tuple[int, list[str]]]:
    return ((number, row) for number, row in rows if any(row[at].strip() for at in targets))


def _column(target: Target, values: list[str], rows: Sequence[int]) -> tuple[Target, Array]:
    """A target and its float32 (n,): numbers, or classes by their number; NaN where blank. ``rows``: their numbers."""
    given = np.flatnonzero([bool(value) for value in values])
    column = np.full(len(values), np.nan, np.float32)
    if target.kind == "classification":
        classes, numbers = np.unique([value for value in values if value], return_inverse=True)
        _check_classes(target.name, len(classes))
        column[given] = numbers
        return replace(target, n_way=len(classes)), column
    for at in given.tolist():
        column[at] = _number(values[at], rows[at])
    return target, column


def _check_classes(name: str, count: int) -> None:
    """Raise Invalid where a target has too few classes, or so many that they are numbers."""
    param = f"columns.targets.{name}"
    if count < 2:
        raise Invalid("a target of classification needs at least 2 classes", param=param)
    if count > _MOST_CLASSES:
        message = (
            f"column {quoted(name)} has {count} classes, and {_MOST_CLASSES} is the most: is this a regression target?"
        )
        raise Invalid(message, param=param)


def _number(value: str, row: int) -> float:
    try:
        found = float(value)
    except ValueError:
        raise fault(row, "has a target of regression that is neither a number nor blank") from None
    if not abs(found) < np.finfo(np.float32).max:
        raise fault(row, "has a target that is NaN, infinite or beyond 32 bits; leave it blank")
    return found
