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

from kshot.contracts.checkpoints import TextInput
from kshot.contracts.errors import Invalid, TooLarge

MOST_CHARS = TextInput().max_chars
"""Of a text: what could not be asked of the service later is not trained on either."""
MOST_ROWS = 2_000_000
MOST_CLASSES = 100_000
MOST_LABEL_CHARS = 200
_LONGEST_LINE = 4 * 2**20
"""A row of 65,536 numbers, and no more than a child process can hold of a file that is one line."""
_OTHER_SEPARATORS = re.compile("[;\t|]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL and lone surrogates: neither Postgres nor UTF-8 can hold them."""


@dataclass(frozen=True)
class CsvRows:
    """``header``: names of the columns, each once. ``rows``: (number, one value for each column)."""

    header: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]

    def place(self, column: str, param: str, remedy: str = "") -> int:
        """Where a column is. Raises Invalid where there is none of that name, with the remedy."""
        if column not in self.header:
            raise lacking(f"the CSV file has no column {quoted(column)}", param, remedy)
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
        if len(header) == 1 and _OTHER_SEPARATORS.search(header[0]):
            raise Invalid("the CSV header is a single column; expected commas between columns", param="file")
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
    if label is not None and not isinstance(label, str):
        raise fault(number, "has a label that is neither a string nor an integer", kind)
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


def quoted(name: str) -> str:
    """A name of the caller's own, or our default, fit for a message."""
    return f'"{_UNSTORABLE.sub("?", name)}"'


def lacking(what: str, param: str, remedy: str = "") -> Invalid:
    """Something the file has not, under the name that ``param`` gives."""
    return Invalid(f"{what}; {remedy or f'say which one in {param}'}", param=param)


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
            raise TooLarge(f"a line of the file has more than {_LONGEST_LINE} characters", param="file")
        yield line


def _records(reader: "csv._reader") -> Iterator[Sequence[str]]:  # type: ignore[name-defined,unused-ignore]
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise Invalid(_what_is_wrong(error, f"near line {reader.line_num}"), param="file") from None


def _what_is_wrong(error: csv.Error, where: str) -> str:
    if "field limit" not in str(error):
        return f"the file is no CSV {where}"
    limit = csv.field_size_limit()
    return f"a value {where} has more than {limit} characters (texts may have {MOST_CHARS}), or its quote never closes"


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
        raise fault(number, "is no JSON object that can be read; each line holds one whole object") from None
    if not isinstance(value, dict):
        raise fault(number, "is no JSON object; each line holds one")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError
