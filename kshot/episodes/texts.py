"""Labelled texts in CSV and JSON-lines files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kshot.contracts.errors import Invalid
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.rows import MOST_CHARS, check_label, fault, json_rows, open_csv, quoted, storable

LabelledTexts = Iterator[tuple[str, str]]


def read_text_csv(source: bytes | Path, text: str = "text", label: str = "label") -> Pool:
    """A pool from UTF-8 CSV with a header; ``text`` and ``label`` name the two columns.

    Raises Invalid where a column is missing, the file is not UTF-8 CSV, a row has no text or no label, or there is no
    row; TooLarge over 2 million rows.
    """
    return pool_of_texts(csv_texts(source, text, label))


def pool_of_texts(labelled: LabelledTexts) -> Pool:
    """A pool from (text, label). Raises Invalid where there are none."""
    texts, labels = [], []
    for text, label in labelled:
        texts.append(text)
        labels.append(label)
    if not texts:
        raise Invalid("the file holds no labelled text", param="file")
    return pool_from_labels(texts, labels)


def csv_texts(source: bytes | Path, text: str, label: str) -> LabelledTexts:
    """(text, label) of each row, one at a time."""
    with open_csv(source) as table:
        at_text, at_label = table.place(text, "columns.inputs"), table.place(label, "columns.label")
        for number, row in table.rows:
            yield _text(row[at_text], number), check_label(row[at_label], number)


def json_texts(source: bytes | Path, text: str, label: str) -> LabelledTexts:
    """(text, label) of each line, under the keys ``text`` and ``label``; other keys are passed over."""
    for number, row in json_rows(source):
        yield (
            _text(_value(row, text, number, "columns.inputs"), number),
            check_label(_value(row, label, number, "columns.label"), number),
        )


def _value(row: Mapping[str, Any], key: str, number: int, param: str) -> object:
    """Where the first row lacks a key, its name is at fault."""
    if key not in row:
        message = f"row {number} has no key {quoted(key)}; say which one in {param}"
        raise Invalid(message, param=param if number == 1 else "file")
    return row[key]


def _text(value: object, number: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise fault(number, "has no text")
    if len(value) > MOST_CHARS:
        raise fault(number, f"has a text of more than {MOST_CHARS} characters")
    return storable(value, number)
