"""The data sets recipes may name: where each lies below ``--data``, how it is read, and what to record about it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from kshot.contracts.checkpoints import DataSource
from kshot.contracts.errors import Invalid
from kshot.episodes.omniglot import read_omniglot
from kshot.episodes.pool import Pool, with_rotations

Split = Literal["train", "valid", "test"]
SINUSOIDS = "sinusoids"


@dataclass(frozen=True)
class Source:
    """``file``: below the data folder. ``read``: (data folder, split) -> the pool of that split's classes."""

    file: str
    protocol: str
    read: Callable[[Path, Split], Pool]


def _omniglot(data: Path, split: Split) -> Pool:
    return with_rotations(read_omniglot(data / _SOURCES["omniglot"].file, split))


_SOURCES: dict[str, Source] = {
    "omniglot": Source("omniglot/omniglot28_bits.npz", "Vinyals split, rotations as classes", _omniglot),
}


def load_pool(name: str, split: Split, data: Path) -> Pool:
    """The classes of one split. Raises Invalid for an unknown data set or a missing file."""
    return _load(name, split, data)


def describe(name: str, split: Split, data: Path) -> DataSource:
    """What a manifest records about the data behind a checkpoint."""
    if name == SINUSOIDS:
        return DataSource(name=name, sha256="", split="drawn from the seed")
    source = _source(name)
    digest = hashlib.sha256((data / source.file).read_bytes()).hexdigest()
    classes = len(load_pool(name, split, data).classes)
    return DataSource(name=name, sha256=digest, split=f"{split} ({source.protocol})", n_classes=classes)


@cache
def _load(name: str, split: Split, data: Path) -> Pool:
    source = _source(name)
    if not (data / source.file).is_file():
        raise Invalid(f"data set {name} is not in the data folder: {source.file} is missing")
    return source.read(data, split)


def _source(name: str) -> Source:
    if name not in _SOURCES:
        raise Invalid(f"unknown data set; known are {', '.join([*_SOURCES, SINUSOIDS])}")
    return _SOURCES[name]
