"""The formats of data sets: one reader for each, found by name."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kshot.contracts.checkpoints import ImageInput, InputSpec
from kshot.contracts.datasets import Columns, Format, Modality, Pictures
from kshot.contracts.errors import Invalid
from kshot.episodes.images import read_image_zip, survey_image_zip
from kshot.episodes.pool import Pool
from kshot.episodes.rows import check_classes
from kshot.episodes.table_files import read_table_csv
from kshot.episodes.tables import Table
from kshot.episodes.texts import LabelledTexts, csv_texts, json_texts, pool_of_texts
from kshot.episodes.vectors import read_vector_csv, read_vector_npz

_Texts = Callable[[Path, str, str], LabelledTexts]


@dataclass(frozen=True)
class Survey:
    """What a file was found to hold. ``columns``: with what was left out filled in. ``classes``: examples of each.
    ``table``: where there are targets instead of classes. ``width``: of vectors."""

    columns: Columns
    classes: Mapping[str, int]
    table: Table | None = None
    width: int | None = None
    pictures: Pictures | None = None


@dataclass(frozen=True)
class Reader:
    """How files of one format are read. ``suffix``: of the stored file. ``survey``: reads all of it and refuses what is
    wrong. ``pool``: (file, columns, input spec, classes to read); None where rows have targets."""

    modality: Modality
    suffix: str
    survey: Callable[[Path, Columns], Survey]
    pool: Callable[[Path, Columns, InputSpec, Collection[str]], Pool] | None


def _survey_images(file: Path, columns: Columns) -> Survey:
    counts, pictures = survey_image_zip(file)
    return Survey(columns, counts, pictures=pictures)


def _pool_of_images(file: Path, columns: Columns, spec: InputSpec, classes: Collection[str]) -> Pool:
    assert isinstance(spec, ImageInput)
    return read_image_zip(file, spec, classes)


def _survey_texts(read: _Texts, file: Path, columns: Columns) -> Survey:
    text = columns.inputs or "text"
    counts = Counter(label for _, label in read(file, text, columns.label))
    check_classes(len(counts))
    return Survey(columns.model_copy(update={"inputs": text}), counts)


def _pool_of_texts(read: _Texts, file: Path, columns: Columns, spec: InputSpec, classes: Collection[str]) -> Pool:
    rows = read(file, columns.inputs or "text", columns.label)
    return pool_of_texts((text, label) for text, label in rows if label in classes)


def _arrays(columns: Columns) -> tuple[str, str]:
    """Names of two arrays; an npz archive's labels are ``labels`` where nothing else is said."""
    return columns.inputs or "inputs", "labels" if columns.label == Columns().label else columns.label


def _survey_npz(file: Path, columns: Columns) -> Survey:
    inputs, labels = _arrays(columns)
    return _surveyed(Columns(inputs=inputs, label=labels), read_vector_npz(file, inputs, labels))


def _survey_csv_vectors(file: Path, columns: Columns) -> Survey:
    return _surveyed(columns, read_vector_csv(file, columns.label))


def _pool_of_npz(file: Path, columns: Columns, spec: InputSpec, classes: Collection[str]) -> Pool:
    return read_vector_npz(file, *_arrays(columns))


def _pool_of_csv_vectors(file: Path, columns: Columns, spec: InputSpec, classes: Collection[str]) -> Pool:
    return read_vector_csv(file, columns.label)


def _survey_table(file: Path, columns: Columns) -> Survey:
    if not columns.targets:
        raise Invalid("say which columns to predict: columns.targets", param="columns.targets")
    table = read_table_csv(file, columns)
    return Survey(columns, {}, table, int(table.inputs.shape[1]))


def _surveyed(columns: Columns, pool: Pool) -> Survey:
    assert not isinstance(pool.inputs, list)
    counts = {name: len(rows) for name, rows in zip(pool.classes, pool.rows, strict=True)}
    check_classes(len(counts))
    return Survey(columns, counts, width=int(pool.inputs.shape[1]))


READERS: Mapping[Format, Reader] = {
    "image_zip": Reader("image", ".zip", _survey_images, _pool_of_images),
    "text_csv": Reader("text", ".csv", partial(_survey_texts, csv_texts), partial(_pool_of_texts, csv_texts)),
    "text_jsonl": Reader("text", ".jsonl", partial(_survey_texts, json_texts), partial(_pool_of_texts, json_texts)),
    "vector_npz": Reader("vector", ".npz", _survey_npz, _pool_of_npz),
    "vector_csv": Reader("vector", ".csv", _survey_csv_vectors, _pool_of_csv_vectors),
    "table_csv": Reader("vector", ".csv", _survey_table, None),
}
"""Of uploaded files; sinusoids are drawn, and recorded tasks are written by the service itself."""
