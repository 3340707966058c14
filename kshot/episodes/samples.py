"""A few examples of a data set, for people to look at: from many classes where there are many."""

import base64
import io
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from PIL import Image

from kshot.contracts.datasets import DatasetManifest, Format
from kshot.episodes.images import sample_pictures
from kshot.episodes.rows import open_csv
from kshot.episodes.texts import csv_texts, json_texts
from kshot.episodes.vectors import read_vector_npz

T = TypeVar("T")
_ROWS_READ = 5000
"""Of a file of rows; the examples are taken from these."""
_NUMBERS = 8


@dataclass(frozen=True)
class Sample:
    """One example, as far as it is shown. ``image``: a PNG as a data URL. ``numbers``: the first few of a vector.
    ``targets``: what is to be predicted, of a table."""

    label: str | None = None
    image: str | None = None
    text: str | None = None
    numbers: tuple[float, ...] = ()
    targets: Mapping[str, str] | None = None


def look_into(file: Path, manifest: DatasetManifest, most: int) -> list[Sample]:
    """Up to ``most`` examples of a data set's file, each class once before any comes twice.

    Raises as the readers do, though a file that was read through before gives them no reason.
    """
    reader = _READERS.get(manifest.format)
    return [] if reader is None else list(islice(reader(file, manifest, most), most))


def _images(file: Path, manifest: DatasetManifest, most: int) -> Iterator[Sample]:
    for label, picture in sample_pictures(file, most):
        packed = io.BytesIO()
        Image.fromarray(picture).save(packed, "PNG")
        yield Sample(label, image=f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}")


def _texts(file: Path, manifest: DatasetManifest, most: int) -> Iterator[Sample]:
    read = csv_texts if manifest.format == "text_csv" else json_texts
    rows = islice(read(file, manifest.columns.inputs or "text", manifest.columns.label), _ROWS_READ)
    for text, label in in_turns(rows, lambda row: row[1]):
        yield Sample(label, text=text)


def _vectors(file: Path, manifest: DatasetManifest, most: int) -> Iterator[Sample]:
    with open_csv(file) as table:
        at = table.place(manifest.columns.label, "columns.label")
        for _, row in in_turns(islice(table.rows, _ROWS_READ), lambda numbered: numbered[1][at]):
            label = row.pop(at)
            yield Sample(label, numbers=tuple(map(float, row[:_NUMBERS])))


def _arrays(file: Path, manifest: DatasetManifest, most: int) -> Iterator[Sample]:
    pool = read_vector_npz(file, manifest.columns.inputs or "inputs", manifest.columns.label)
    labelled = ((label, row) for label, rows in zip(pool.classes, pool.rows, strict=True) for row in rows[:most])
    for label, row in in_turns(labelled, lambda pair: pair[0]):
        yield Sample(label, numbers=tuple(pool.inputs[row][:_NUMBERS].tolist()))


def _table(file: Path, manifest: DatasetManifest, most: int) -> Iterator[Sample]:
    columns = manifest.columns
    with open_csv(file) as table:
        targets = {name: table.place(name, f"columns.targets.{name}") for name in columns.targets}
        group = None if columns.group is None else table.place(columns.group, "columns.group")
        inputs = [at for at in range(len(table.header)) if at not in targets.values() and at != group]
        for _, row in table.rows:
            yield Sample(
                numbers=tuple(float(row[at]) for at in inputs[:_NUMBERS]),
                targets={name: row[at].strip() for name, at in targets.items()},
            )


_READERS: Mapping[Format, Callable[[Path, DatasetManifest, int], Iterator[Sample]]] = {
    "image_zip": _images,
    "text_csv": _texts,
    "text_jsonl": _texts,
    "vector_csv": _vectors,
    "vector_npz": _arrays,
    "table_csv": _table,
}
"""Of what is drawn or recorded there is no file, and callers' own tasks are not shown to others."""


def in_turns(items: Iterable[T], of: Callable[[T], str]) -> Iterator[T]:
    """The first of each class, then the second of each, and so on; classes in order of first appearance."""
    classes: dict[str, deque[T]] = defaultdict(deque)
    for item in items:
        classes[of(item)].append(item)
    while left := [own for own in classes.values() if own]:
        yield from (own.popleft() for own in left)
