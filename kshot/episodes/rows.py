"""Rows of CSV and JSON-lines files from anywhere: strict, one at a time, so that memory stays small.

Faults name the row by its number (the header is not counted) and never show what is in it.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

from kshot.contracts.errors import Invalid, TooLarge

MOST_ROWS = 2_000_000
MOST_CLASSES = 100_000
MOST_LABEL_CHARS = 200
_LONGEST_LINE = 4 * 2**20
"""A row of 65,536 numbers, and no more than a child process can hold of a file that is one line."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL and lone surrogates: neither Postgres nor UTF-8 can hold them."""


@dataclass(frozen=True)
class CsvRows:
    """``header``: names of the columns, each once. ``rows``: (number, one value for each column)."""

    header: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]

    def place(self, column: str, param: str = "columns") -> int:
        """Where a column is. Raises Invalid where there is none of that name."""
        if column not in self.header:
            raise Invalid(f"the CSV file has no column named as {param} says", param=param)
        return self.header.index(column)


@contextmanager
def open_csv(source: bytes | Path) -> Iterator[CsvRows]:
    """The rows of UTF-8 CSV with a header; empty lines are passed over.

    Raises Invalid, also while the rows are read: no UTF-8, no CSV, no header, a name twice, a row of another length;
    TooLarge over 2 million rows.
    """
    with _open_text(source) as file:
        reader = csv.reader(_lines(file), strict=True)
        header = tuple(next(_records(reader), ()))
        if not header:
            raise Invalid("the CSV file has no header", param="file")
        if len(set(header)) != len(header):
            raise Invalid("the CSV header names a column twice", param="file")
        yield CsvRows(header, _numbered(_records(reader), len(header)))


def json_rows(source: bytes | Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number, object) of each line of a JSON-lines file; empty lines are passed over.

    Raises Invalid where a line is no JSON object or holds NaN, Infinity or a key twice; TooLarge over 2 million.
    """
    with _open_text(source) as file:
        for number, line in enumerate(filter(str.strip, _lines(file)), 1):
            _check_count(number)
            yield number, _object(line, number)


def check_label(label: object, number: int, kind: str = "row") -> str:
    """A label as text. Raises Invalid for anything but a non-empty string of at most 200 characters or an integer.

    ``number``, ``kind``: what has it, for the message."""
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise fault(number, "has no label", kind)
    if len(label) > MOST_LABEL_CHARS:
        raise fault(number, f"has a label of more than {MOST_LABEL_CHARS} characters", kind)
    return storable(label, number, kind)


def storable(value: str, number: int, kind: str = "row") -> str:
    """The text itself. Raises Invalid where it holds what cannot be stored."""
    if _UNSTORABLE.search(value):
        raise fault(number, "holds a NUL character or a lone surrogate", kind)
    return value


def fault(number: int, what: str, kind: str = "row") -> Invalid:
    """A fault of one row."""
    return Invalid(f"{kind} {number} {what}", param="file")


def check_classes(count: int) -> None:
    """Raise TooLarge over 100,000 classes."""
    if count > MOST_CLASSES:
        raise TooLarge(f"more than {MOST_CLASSES} classes; is the label column right?", param="columns.label")


@contextmanager
def _open_text(source: bytes | Path) -> Iterator[TextIO]:
    raw = io.BytesIO(source) if isinstance(source, bytes) else None
    try:
        with raw or source.open("rb") as opened:  # type: ignore[union-attr]
            yield io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError:
        raise Invalid("the file is not UTF-8", param="file") from None
    except OSError as error:
        raise Invalid("the file cannot be read", param="file") from error


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise TooLarge("a line of the file is too long", param="file")
        yield line


def _records(reader: "csv._reader") -> Iterator[Sequence[str]]:  # type: ignore[name-defined,unused-ignore]
    try:
        yield from filter(None, reader)
    except csv.Error:
        raise Invalid(f"the file is no CSV near line {reader.line_num}", param="file") from None


def _numbered(records: Iterator[Sequence[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(records, 1):
        _check_count(number)
        if len(row) != width:
            raise fault(number, f"has {len(row)} values; the header has {width}")
        yield number, list(row)


def _check_count(number: int) -> None:
    if number > MOST_ROWS:
        raise TooLarge(f"the file has more than {MOST_ROWS} rows", param="file")


def _object(line: str, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise fault(number, "is no JSON object that can be read") from None
    if not isinstance(value, dict):
        raise fault(number, "is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError
