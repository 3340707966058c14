"""The tables recipes may name: where each lies below ``--data``, and which of its rows train.

Those known by name, and any folder with a ``dataset.json`` that says it is one (:mod:`kshot.episodes.datasets`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from kshot.contracts.checkpoints import DataSource
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.episodes.datasets import read_table
from kshot.episodes.pool import Rows
from kshot.episodes.tables import (
    Table,
    read_parkinsons,
    read_tox21,
    split_at_random,
    split_in_turn,
    take_rows,
    take_targets,
)
from kshot.training.data import dataset_manifest, describe_folder

Part = Literal["train", "valid", "trainval", "test", "all"]


@dataclass(frozen=True)
class _Source:
    file: str
    protocol: str
    read: Callable[[Path], Table]
    split: Callable[[Table, int], Mapping[str, Rows]]


_PATIENTS = "by patient, seed 0: 1-30 train, 31-35 valid, 36-42 test"
_PARKINSONS = "parkinsons/parkinsons_updrs.csv"
TABLES = {
    "tox21": _Source(
        "tox21/tox21_ecfp1024.npz", "80/10/10% at random, equal fingerprints together", read_tox21, split_at_random
    ),
    "parkinsons": _Source(_PARKINSONS, _PATIENTS, read_parkinsons, split_in_turn),
    "parkinsons-sex": _Source(
        _PARKINSONS, f"{_PATIENTS}; sex is a target", partial(read_parkinsons, sex_is_a_target=True), split_in_turn
    ),
}


def load_table(name: str, part: Part, data: Path, seed: int, targets: Sequence[str] = ()) -> Table:
    """The rows of one part of the split that ``seed`` draws, with the ``targets`` (all, where none is named).

    Raises Invalid for an unknown table or target, or a missing file.
    """
    if name not in TABLES and holds_table(name, data):
        table = _read_folder(data / name, part)
        return take_targets(table, targets or [target.name for target in table.targets])
    if name not in TABLES:
        raise Invalid(f"unknown table; known are {', '.join(TABLES)}")
    if not (data / TABLES[name].file).is_file():
        raise Invalid(f"table {name} is not in the data folder: {TABLES[name].file} is missing")
    table = _read(name, data)
    parts = _split(name, data, seed)
    wanted = {"trainval": ("train", "valid"), "all": ("train", "valid", "test")}.get(part, (part,))
    rows = np.sort(np.concatenate([parts[own] for own in wanted]))
    return take_targets(take_rows(table, rows), targets or [target.name for target in table.targets])


def training_table(recipe: Recipe, data: Path) -> Table | None:
    """The rows and targets a recipe trains on; None where its data is no table."""
    if recipe.data is None or not holds_table(recipe.data.name, data):
        return None
    return load_table(recipe.data.name, recipe.data.split, data, recipe.seed, recipe.data.targets)


def describe_table(name: str, part: Part, data: Path, seed: int) -> DataSource:
    """What a manifest records about the table behind a checkpoint."""
    manifest = dataset_manifest(name, data)
    if manifest is not None:
        return describe_folder(manifest, part)
    load_table(name, part, data, seed)
    digest = hashlib.sha256((data / TABLES[name].file).read_bytes()).hexdigest()
    return DataSource(name=name, sha256=digest, split=f"{part}, seed {seed} ({TABLES[name].protocol})")


def holds_table(name: str, data: Path) -> bool:
    """Whether a data set has rows with targets: a table, or recorded tasks that predict numbers."""
    manifest = dataset_manifest(name, data)
    if manifest is None:
        return name in TABLES
    return manifest.format == "table_csv" or (manifest.format == "recorded_tasks" and manifest.task == "regression")


@cache
def _read_folder(folder: Path, part: Part) -> Table:
    return read_table(folder, part)


@cache
def _split(name: str, data: Path, seed: int) -> Mapping[str, Rows]:
    return TABLES[name].split(_read(name, data), seed)


@cache
def _read(name: str, data: Path) -> Table:
    return TABLES[name].read(data / TABLES[name].file)
