"""Data sets of meta-training: an uploaded file is inspected once, and read part by part from then on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from kshot.contracts.checkpoints import InputSpec
from kshot.contracts.datasets import DATASET_FILE, Columns, DatasetManifest, Format, Part, PartCount
from kshot.contracts.errors import Invalid, KshotError
from kshot.episodes.formats import READERS, Survey
from kshot.episodes.guessing import guess_format
from kshot.episodes.pool import Pool, select_classes
from kshot.episodes.recorded import read_recorded_pool, read_recorded_table, recorded_ids
from kshot.episodes.splits import PARTS, Shares, check_splits, split_classes, split_groups, split_tasks
from kshot.episodes.table_files import read_table_csv
from kshot.episodes.tables import Table, take_rows
from kshot.inputs import check_tensor

WantedPart = Literal["train", "valid", "trainval", "test", "all"]
_PARTS: Mapping[WantedPart, tuple[Part, ...]] = {
    "train": ("train",), "valid": ("valid",), "trainval": ("train", "valid"), "test": ("test",), "all": PARTS,
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What the sender of a file says about it. ``filename``: as sent, a hint alone. ``splits``: a split by class of
    their own, instead of one by ``shares`` and ``seed``."""

    id: str
    name: str
    filename: str = ""
    format: Format | None = None
    columns: Columns = Columns()
    shares: Shares = (0.64, 0.16, 0.2)
    seed: int = 0
    splits: Mapping[str, Any] | None = None


def inspect(file: Path, asked: Asked) -> DatasetManifest:
    """What a file holds, every row or picture of it read; all but its ``sha256``, which the sender of bytes knows.

    Raises Invalid, TooLarge or UnsupportedMediaType with a message for the sender.
    """
    try:
        return _inspect(file, asked)
    except KshotError as error:
        error.param = error.param or "file"
        raise


def _inspect(file: Path, asked: Asked) -> DatasetManifest:
    found = guess_format(file, asked.filename, asked.columns, asked.format)
    if found not in READERS:
        raise Invalid("no file is uploaded for this format; send JSON with its source", param="format")
    reader = READERS[found]
    _check_columns(found, asked.columns)
    survey = reader.survey(file, asked.columns)
    counted = _count_rows(survey.table, asked) if survey.table is not None else _count_classes(survey, asked)
    return DatasetManifest(
        id=asked.id,
        name=asked.name,
        format=found,
        modality=reader.modality,
        task="classification" if survey.table is None else "multitask",
        file=f"data{reader.suffix}",
        columns=survey.columns,
        shares=asked.shares,
        seed=asked.seed,
        width=survey.width,
        pictures=survey.pictures,
        **counted,
    )


def _check_columns(found: Format, columns: Columns) -> None:
    """Raise Invalid where something is said that files of this format have no use for."""
    for name in ("targets", "group"):
        if found != "table_csv" and getattr(columns, name):
            message = f"this is read as {found}; only a CSV table with columns.targets has these: leave this out"
            raise Invalid(message, param=f"columns.{name}")


def read_manifest(folder: Path) -> DatasetManifest:
    """What a data set's folder says about itself. Raises Invalid where it does not."""
    try:
        return DatasetManifest.model_validate_json((folder / DATASET_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise Invalid("the data set's folder has no readable dataset.json") from error


def read_pool(folder: Path, part: WantedPart, spec: InputSpec) -> Pool:
    """The classes of one part, as canonical inputs. Recorded tasks are its groups.

    Raises Invalid where the data set has no classes, the part none of them, or the inputs are of another kind than
    ``spec`` takes.
    """
    manifest = read_manifest(folder)
    if spec.modality != manifest.modality:
        raise Invalid(f"the data set holds inputs of kind {manifest.modality}, and {spec.modality} is asked for")
    if manifest.format == "recorded_tasks":
        pool = read_recorded_pool(_file(folder, manifest), _tasks(folder, manifest, part))
    else:
        pool = _read_classes(folder, manifest, part, spec)
    if not isinstance(pool.inputs, list):
        check_tensor(pool.inputs[:1], spec, "data set")
    return pool


def read_table(folder: Path, part: WantedPart) -> Table:
    """The rows of one part of a table, or the recorded tasks of regression as its groups.

    Raises Invalid where the data set is no table, or the part has no rows.
    """
    manifest = read_manifest(folder)
    if manifest.format == "recorded_tasks":
        return read_recorded_table(_file(folder, manifest), _tasks(folder, manifest, part))
    if manifest.format != "table_csv":
        raise Invalid("the data set is no table of targets")
    table = read_table_csv(_file(folder, manifest), manifest.columns)
    rows = split_groups(table.groups, manifest.shares, manifest.seed)
    chosen = np.sort(np.concatenate([rows[wanted] for wanted in _PARTS[part]]))
    if not len(chosen):
        raise Invalid(f"part {part} of the data set has no rows")
    return take_rows(table, chosen)


def _read_classes(folder: Path, manifest: DatasetManifest, part: WantedPart, spec: InputSpec) -> Pool:
    read = READERS[manifest.format].pool if manifest.format in READERS else None
    if read is None:
        raise Invalid("the data set has no classes to read")
    names = [name for wanted in _PARTS[part] for name in manifest.splits.get(wanted, ())]
    if not names:
        raise Invalid(f"part {part} of the data set has no classes")
    pool = read(_file(folder, manifest), manifest.columns, spec, set(names))
    return pool if len(pool.classes) == len(names) else select_classes(pool, names)


def _tasks(folder: Path, manifest: DatasetManifest, part: WantedPart) -> list[str]:
    """Ids of the recorded tasks of one part."""
    split = split_tasks(recorded_ids(_file(folder, manifest)), manifest.shares, manifest.seed)
    found = [task for wanted in _PARTS[part] for task in split[wanted]]
    if not found:
        raise Invalid(f"part {part} of the recorded tasks is empty; record more tasks first")
    return found


def _file(folder: Path, manifest: DatasetManifest) -> Path:
    if manifest.file is None:
        raise Invalid("the data set has no file: its tasks are drawn")
    return folder / manifest.file


def _count_classes(survey: Survey, asked: Asked) -> dict[str, Any]:
    """The split by class and what each part holds."""
    if len(survey.classes) < 2:
        raise Invalid("the data have fewer than 2 classes; is the label column right?", param="file")
    names = sorted(survey.classes)
    if asked.splits is None:
        splits = split_classes(names, asked.shares, asked.seed)
    else:
        splits = check_splits(asked.splits, names)
    sizes = {part: [survey.classes[name] for name in chosen] for part, chosen in splits.items()}
    return {
        "splits": splits,
        "counts": {part: PartCount(n_classes=len(found), n_examples=sum(found)) for part, found in sizes.items()},
        "n_examples": sum(map(sum, sizes.values())),
        "sizes": {part: tuple(found) for part, found in sizes.items()},
        "smallest": min(size for found in sizes.values() for size in found),
    }


def _count_rows(table: Table, asked: Asked) -> dict[str, Any]:
    """What each part of a table holds; its groups are split when it is read."""
    if asked.splits is not None:
        raise Invalid("a table is split by group or row, not by class; leave this part out", param="splits")
    rows = split_groups(table.groups, asked.shares, asked.seed)
    return {
        "counts": {part: PartCount(n_examples=len(chosen)) for part, chosen in rows.items()},
        "n_examples": len(table),
    }
