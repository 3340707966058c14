"""Tables with several targets, some of them missing in some rows: readers, and splits that keep a group together."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array
from kshot.episodes.archives import read_npz
from kshot.episodes.pool import Rows
from kshot.episodes.sampling import Episode

_UPDRS = ("motor_UPDRS", "total_UPDRS")


@dataclass(frozen=True)
class Target:
    """``n_way``: how many classes, for a target that is a class."""

    name: str
    kind: Literal["classification", "regression"]
    n_way: int | None = None


@dataclass(frozen=True)
class Table:
    """``inputs``: float32 (n, width). ``values``: float32 (n, T), a class by its number, NaN where a row lacks it.

    ``groups``: int64 (n,), rows of one group belong on one side of a split.
    """

    inputs: Array
    targets: tuple[Target, ...]
    values: Array
    groups: Array

    def __len__(self) -> int:
        return len(self.inputs)


def take_rows(table: Table, rows: Rows) -> Table:
    """The table of those rows."""
    return replace(table, inputs=table.inputs[rows], values=table.values[rows], groups=table.groups[rows])


def take_targets(table: Table, names: Sequence[str]) -> Table:
    """The table of those targets, without the rows that have none of them. Raises Invalid for an unknown name."""
    known = [target.name for target in table.targets]
    if unknown := set(names) - set(known):
        raise Invalid(f"the table has no target {', '.join(sorted(unknown))}")
    places = [known.index(name) for name in names]
    chosen = replace(table, targets=tuple(table.targets[i] for i in places), values=table.values[:, places])
    return take_rows(chosen, np.flatnonzero(~np.isnan(chosen.values).all(1)))


def read_tox21(file: Path) -> Table:
    """Tox21: 1,024 fingerprint bits of 7,823 molecules, 12 assays of two classes (1 active, 0 not), many missing.

    Molecules with the same fingerprint are one group. Raises Invalid where the file is not ``tox21_ecfp1024.npz``.
    """
    arrays = read_npz(file)
    try:
        inputs = np.unpackbits(arrays["fingerprints"], axis=1).astype(np.float32)
        labels, names = arrays["labels"].astype(np.float32), [str(name) for name in arrays["tasks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("not the Tox21 archive: arrays are missing or of the wrong kind") from error
    if labels.shape != (len(inputs), len(names)):
        raise Invalid("not the Tox21 archive: wrong shape")
    groups = np.unique(inputs, axis=0, return_inverse=True)[1].reshape(-1)
    targets = tuple(Target(name, "classification", 2) for name in names)
    return Table(inputs, targets, np.where(labels < 0, np.nan, labels).astype(np.float32), groups)


def read_parkinsons(file: Path, sex_is_a_target: bool = False) -> Table:
    """Parkinsons telemonitoring: 5,875 recordings of 42 patients (the groups), two UPDRS scores to predict.

    19 inputs: age, sex, days since the start, 16 voice measures. ``sex_is_a_target``: it moves from the inputs to the
    targets, as a class. Raises Invalid where the file is not ``parkinsons_updrs.csv``.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        numbers = {name: np.array(column, float) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        groups = numbers.pop("subject#").astype(np.int64)
        scores = [numbers.pop(name) for name in _UPDRS]
        classes = [numbers.pop("sex")] if sex_is_a_target else []
    except (OSError, ValueError, KeyError) as error:
        raise Invalid("not the Parkinsons table: it cannot be read, or columns are missing") from error
    targets = [Target(name, "regression") for name in _UPDRS]
    if sex_is_a_target:
        targets.insert(0, Target("sex", "classification", 2))
    inputs = np.stack(list(numbers.values()), 1).astype(np.float32)
    return Table(inputs, tuple(targets), np.stack([*classes, *scores], 1).astype(np.float32), groups)


def split_at_random(table: Table, seed: int) -> Mapping[str, Rows]:
    """Rows of ``train``, ``valid`` and ``test``: 80, 10 and 10% of the groups, drawn by the seed."""
    groups = np.random.default_rng(seed).permutation(np.unique(table.groups))
    return _rows_of(table, groups, len(groups) * 8 // 10, len(groups) * 9 // 10)


def split_in_turn(table: Table, seed: int) -> Mapping[str, Rows]:
    """The same where groups are few: the last sixth of the groups is ``test``, five before it ``valid``.

    Each seed moves on by a sixth, so six seeds test every group once. For Parkinsons seed 0 is the suggested split.
    """
    groups = np.unique(table.groups)
    sixth = len(groups) // 6
    return _rows_of(table, np.roll(groups, -sixth * seed), len(groups) - sixth - 5, len(groups) - sixth)


def _rows_of(table: Table, groups: Array, valid: int, test: int) -> Mapping[str, Rows]:
    parts = {"train": groups[:valid], "valid": groups[valid:test], "test": groups[test:]}
    return {name: np.flatnonzero(np.isin(table.groups, chosen)) for name, chosen in parts.items()}


def with_groups_of(table: Table, rows: int) -> Table:
    """The table of the groups that have so many rows. Raises Invalid where none has."""
    _, place, sizes = np.unique(table.groups, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(sizes[place.reshape(-1)] >= rows)
    if not len(kept):
        raise Invalid(f"no group of the table has {rows} rows")
    return take_rows(table, kept)


def sample_group(table: Table, k_shot: int, n_query: int, rng: np.random.Generator) -> Episode:
    """A group of a table of numbers as a regression task: rows of it to learn from, others (all, at most) to ask."""
    group = rng.choice(np.unique(table.groups))
    rows = rng.permutation(np.flatnonzero(table.groups == group))
    support, query = rows[:k_shot], rows[k_shot : k_shot + n_query]
    return Episode(
        "regression",
        None,
        table.inputs[support],
        table.values[support],
        table.inputs[query],
        table.values[query],
        int(group),
    )
