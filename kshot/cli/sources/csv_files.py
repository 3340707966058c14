"""CSV files of texts or of vectors, with a header, and a column of labels or none."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kshot.cli.sources.examples import Examples, Modality, Task, Truth, WrongUse, listed
from kshot.cli.sources.values import as_labels, as_number, kind_of
from kshot.contracts.wire import Array

_LABELS = ("label", "labels", "class", "category", "intent", "target", "y")
_TEXTS = ("text", "texts", "sentence", "utterance", "message", "query", "question", "content", "body")
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Asked:
    """What the caller said about the columns; None: to be guessed. ``labelled``: there must be labels."""

    label: str | None = None
    text: str | None = None
    task: Task | None = None
    modality: Modality | None = None
    labelled: bool = False


def read_csv(file: Path, asked: Asked) -> Examples:
    """Texts or vectors, with labels where a column of them is named or looks like one.

    Raises WrongUse where the file is no CSV with a header, or a column cannot be told: the message lists them.
    """
    header, rows = _rows(file)
    label = _label_column(file, header, asked)
    others = [name for name in header if name != label]
    text = _text_column(file, header, rows, others, asked)
    labels = None if label is None else as_labels([row[header.index(label)] for row in rows], asked.task)
    said = _said(len(rows), label, text, labels, others)
    if text is not None:
        texts = [row[header.index(text)] for row in rows]
        return Examples("text", texts, texts, labels, said)
    numbers = _numbers(file, header, rows, others)
    return Examples("vector", numbers, [f"row {i}" for i in range(1, len(rows) + 1)], labels, said)


def usual_columns(file: Path) -> tuple[str | None, str | None]:
    """Columns of labels and of texts by their usual names; None where the header has none of these."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        header = next(csv.reader(lines), [])
    return _usual(header, _LABELS), _usual(header, _TEXTS)


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    found = [name for known in usual for name in names if name.strip().lower() == known]
    return found[0] if found else None


def _rows(file: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of UTF-8 CSV, separated by commas, semicolons or tabs; empty lines are passed over."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            first = lines.readline()
            lines.seek(0)
            separator = max(_SEPARATORS, key=first.count)
            header, *rows = [row for row in csv.reader(lines, delimiter=separator, strict=True) if row] or [[]]
    except UnicodeDecodeError:
        raise WrongUse(f"{file} is not UTF-8; save it as UTF-8 CSV") from None
    except csv.Error as error:
        raise WrongUse(f"{file} is no CSV file ({error})") from None
    if not rows:
        raise WrongUse(f"{file} has no rows; expected CSV with a header and a row for each example")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise WrongUse(f"row {number} of {file} has {len(row)} fields where the header has {len(header)}")
    return header, rows


def _label_column(file: Path, header: Sequence[str], asked: Asked) -> str | None:
    if asked.label is not None:
        return _named(file, header, asked.label, "--label-column")
    usual = _usual([name for name in header if name != asked.text], _LABELS)
    if usual is not None:
        return usual
    if not asked.labelled:
        return None
    texts = [name for name in header if name == asked.text or name.strip().lower() in _TEXTS]
    if len(header) == 2 and len(texts) == 1:
        return next(name for name in header if name != texts[0])
    raise WrongUse(f"which column of {file} holds the label? It has {listed(header)}; say --label-column NAME")


def _text_column(
    file: Path, header: Sequence[str], rows: Sequence[Sequence[str]], others: Sequence[str], asked: Asked
) -> str | None:
    """The column of texts; None where the other columns are numbers."""
    if asked.text is not None:
        return _named(file, header, asked.text, "--text-column")
    if asked.modality == "vector":
        return None
    usual = _usual(others, _TEXTS)
    if usual is not None:
        return usual
    numeric = all(as_number(rows[0][header.index(name)]) is not None for name in others)
    if others and numeric and asked.modality is None:
        return None
    if len(others) == 1:
        return others[0]
    raise WrongUse(f"which column of {file} holds the text? It has {listed(others)}; say --text-column NAME")


def _named(file: Path, header: Sequence[str], name: str, option: str) -> str:
    if name not in header:
        raise WrongUse(f"{file} has no column {name!r}; {option} may be one of {listed(header)}")
    return name


def _numbers(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[str]) -> Array:
    """float32 (n, width) of these columns."""
    if not columns:
        raise WrongUse(f"{file} has no column besides the labels")
    found = np.empty((len(rows), len(columns)), np.float32)
    for place, name in enumerate(columns):
        at = header.index(name)
        for number, row in enumerate(rows):
            value = as_number(row[at])
            if value is None:
                raise WrongUse(
                    f"column {name!r} of {file} is no number in row {number + 1}; remove the column, or say which one "
                    "holds the text (--text-column) or the label (--label-column)"
                )
            found[number, place] = value
    return found


def _said(
    n: int, label: str | None, text: str | None, labels: Sequence[Truth | None] | None, others: Sequence[str]
) -> tuple[str, ...]:
    inputs = f"text column: {text}" if text is not None else f"vectors of {len(others)} columns"
    if labels is None:
        return (f"{n} rows; {inputs}; no label column",)
    return (f"{n} rows; {inputs}; label column: {label} ({kind_of(labels)})",)
