"""The data sets recipes may name: where each lies below ``--data``, how it is read, and what to record about it.

Those known by name, and any folder with a ``dataset.json`` (:mod:`kshot.episodes.datasets`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from kshot.contracts.checkpoints import DataSource, ImageInput, InputSpec
from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.episodes.datasets import read_manifest, read_pool
from kshot.episodes.images import read_image_zip
from kshot.episodes.omniglot import read_omniglot
from kshot.episodes.pool import Pool, pool_from_labels, select_classes, with_rotations
from kshot.episodes.splits import Splits, read_splits
from kshot.episodes.texts import read_text_csv

Split = Literal["train", "valid", "trainval", "test", "all"]
SINUSOIDS = "sinusoids"


@dataclass(frozen=True)
class Source:
    """``files``: below the data folder. ``read``: (data folder, split, input spec) -> that split's classes."""

    files: tuple[str, ...]
    protocol: str
    read: Callable[[Path, Split, InputSpec], Pool]


def load_pool(name: str, split: Split, data: Path, spec: InputSpec) -> Pool:
    """The classes of one split, as canonical inputs. Raises Invalid for an unknown data set or a missing file."""
    if dataset_manifest(name, data) is not None:
        return _load_folder(data / name, split, spec)
    source = _source(name)
    missing = [file for file in source.files if not (data / file).is_file()]
    if missing:
        raise Invalid(f"data set {name} is not in the data folder: {missing[0]} is missing")
    return _load(name, split, data, spec)


def describe(name: str, split: Split, data: Path, spec: InputSpec) -> DataSource:
    """What a manifest records about the data behind a checkpoint; the hash is over all its files, in order."""
    manifest = dataset_manifest(name, data)
    if draws_sinusoids(name, data):
        own = manifest.id if manifest else None
        return DataSource(name=manifest.name if manifest else name, sha256="", split="drawn from the seed", id=own)
    if manifest is not None:
        return describe_folder(manifest, split)
    source = _source(name)
    digest = hashlib.sha256(b"".join((data / file).read_bytes() for file in source.files)).hexdigest()
    classes = len(load_pool(name, split, data, spec).classes)
    return DataSource(name=name, sha256=digest, split=f"{split} ({source.protocol})", n_classes=classes)


def dataset_manifest(name: str, data: Path) -> DatasetManifest | None:
    """What the data set's folder says of it; None where there is no such folder."""
    folder = data / name
    return read_manifest(folder) if (folder / DATASET_FILE).is_file() else None


def draws_sinusoids(name: str, data: Path) -> bool:
    """Whether the data set is the sinusoid family, whose tasks are drawn."""
    manifest = dataset_manifest(name, data)
    return name == SINUSOIDS if manifest is None else manifest.format == "sinusoid"


def describe_folder(manifest: DatasetManifest, split: str) -> DataSource:
    """What a checkpoint's manifest records about a data set that was uploaded."""
    parts = ("train", "valid") if split == "trainval" else (split,)
    classes = [len(own) for part, own in manifest.splits.items() if part in parts]
    shares = "/".join(f"{100 * share:g}" for share in manifest.shares)
    protocol = "by class" if manifest.splits else f"{shares}%, seed {manifest.seed}"
    return DataSource(
        name=manifest.name,
        sha256=manifest.sha256,
        split=f"{split} ({protocol})",
        n_classes=sum(classes) if classes else None,
        id=manifest.id,
    )


@cache
def _load_folder(folder: Path, split: Split, spec: InputSpec) -> Pool:
    return read_pool(folder, split, spec)


@cache
def _load(name: str, split: Split, data: Path, spec: InputSpec) -> Pool:
    return _source(name).read(data, split, spec)


def _source(name: str) -> Source:
    if name not in _SOURCES:
        raise Invalid(f"unknown data set; known are {', '.join([*_SOURCES, SINUSOIDS])}")
    return _SOURCES[name]


def _omniglot(data: Path, split: Split, spec: InputSpec) -> Pool:
    if split == "all":
        raise Invalid("omniglot is used by its split")
    return with_rotations(read_omniglot(data / "omniglot/omniglot28_bits.npz", split))


def _caltech(data: Path, split: Split, spec: InputSpec) -> Pool:
    if not isinstance(spec, ImageInput):
        raise Invalid("caltech101_84 holds pictures")
    folder = data / "caltech101_84"
    splits = read_splits(folder / "splits.json")
    splits = {"valid" if name == "val" else name: classes for name, classes in splits.items()}
    return read_image_zip(folder / "caltech101_84.zip", spec, _names(splits, split))


def _clinc(data: Path, split: Split, spec: InputSpec) -> Pool:
    pool = read_text_csv(data / "clinc150/clinc150.csv", "text", "intent")
    splits = read_splits(data / "clinc150/fewshot_class_splits.json", "01")
    return select_classes(pool, _names(splits, split))


def _banking(data: Path, split: Split, spec: InputSpec) -> Pool:
    parts = [read_text_csv(data / "banking77" / file, "text", "category") for file in ("train.csv", "test.csv")]
    texts, labels = [], []
    for part in parts:
        for name, rows in zip(part.classes, part.rows, strict=True):
            texts += [str(part.inputs[row]) for row in rows]
            labels += [name] * len(rows)
    pool = pool_from_labels(texts, labels)
    if split == "all":
        return pool
    splits = read_splits(data / "banking77/fewshot_class_splits.json", "01")
    return select_classes(pool, _names(splits, split))


def _names(splits: Splits, split: Split) -> list[str]:
    """The classes of one part, of training and validation together, or of all parts."""
    parts = {"trainval": ("train", "valid"), "all": tuple(splits)}.get(split, (split,))
    return [name for part in parts for name in splits[part]]


_SOURCES: dict[str, Source] = {
    "omniglot": Source(("omniglot/omniglot28_bits.npz",), "Vinyals, rotations as classes", _omniglot),
    "caltech101_84": Source(("caltech101_84/caltech101_84.zip", "caltech101_84/splits.json"), "own split", _caltech),
    "clinc150": Source(("clinc150/clinc150.csv", "clinc150/fewshot_class_splits.json"), "ProtAugment 01", _clinc),
    "banking77": Source(
        ("banking77/train.csv", "banking77/test.csv", "banking77/fewshot_class_splits.json"),
        "ProtAugment 01, train and test rows pooled",
        _banking,
    ),
}
