"""What a file is, where its sender does not say: by its first bytes, its entries or its header, and its name."""

import codecs
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from kshot.contracts.datasets import Columns, Format
from kshot.contracts.errors import Invalid, UnsupportedMediaType
from kshot.episodes.archives import open_zip
from kshot.episodes.rows import open_csv

_HEAD = 4096
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_REFUSED = {
    b"\x80": "pickles are not read: they can run code; send CSV, JSON lines, npz or a zip of pictures",
    b"\x93NUMPY": "send the arrays as one npz archive (numpy.savez)",
    b"\x1f\x8b": "compressed files are not read; send the file itself, or a zip of pictures",
    b"BZh": "compressed files are not read; send the file itself, or a zip of pictures",
    b"\xfd7zXZ": "compressed files are not read; send the file itself, or a zip of pictures",
    b"7z\xbc\xaf": "send a zip archive",
    b"Rar!": "send a zip archive",
    b"PAR1": "parquet files are not read; send CSV",
    b"\x89HDF": "HDF5 files are not read; send an npz archive",
    b"\x89PNG": "send a zip archive with one folder of pictures per class",
    b"\xff\xd8\xff": "send a zip archive with one folder of pictures per class",
    b"GIF8": "send a zip archive with one folder of PNG or JPEG pictures per class",
    b"%PDF": "PDF files are not read; send their text as CSV",
}
_JSON_ARRAY = re.compile(rb"\s*\[\s*[\[{]")
_TEXT_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".tsv", ".txt")
ZIPPED: tuple[Format, ...] = ("image_zip", "vector_npz")


def guess_format(file: Path, filename: str, columns: Columns, wanted: Format | None) -> Format:
    """The format of a file: ``wanted``, where that may be, or what it looks like.

    Raises UnsupportedMediaType for formats that are not read at all, whatever was wanted, and for an archive where a
    text file was wanted or the reverse; Invalid for a damaged archive.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    _refuse(head, filename)
    if wanted in {None, "text_jsonl"} and _JSON_ARRAY.match(head.removeprefix(codecs.BOM_UTF8)):
        message = "JSON arrays are not read; send JSON lines: one object a line, no brackets or commas around them"
        raise UnsupportedMediaType(message, param="file")
    zipped = head.startswith(_ZIPS)
    if wanted is not None:
        if zipped != (wanted in ZIPPED):
            raise UnsupportedMediaType("the file is not of the format named in the request", param="format")
        return wanted
    if zipped:
        return _zip_format(file)
    if filename.lower().endswith((".jsonl", ".ndjson")) or head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        return "text_jsonl"
    return _csv_format(file, columns)


def _refuse(head: bytes, filename: str) -> None:
    if not head:
        raise Invalid("the file is empty", param="file")
    for magic, remedy in _REFUSED.items():
        if head.startswith(magic):
            raise UnsupportedMediaType(remedy, param="file")
    if not head.startswith(_ZIPS) and b"\0" in head and not filename.lower().endswith(_TEXT_SUFFIXES):
        raise UnsupportedMediaType(
            "expected a zip of pictures, CSV or JSON lines in UTF-8, or an npz archive", param="file"
        )


def _zip_format(file: Path) -> Format:
    with open_zip(file) as archive:
        names = archive.namelist()
    if any(name.endswith(".pkl") for name in names):  # what torch.save writes
        raise UnsupportedMediaType("pickles are not read: they can run code", param="file")
    return "vector_npz" if names and all(name.endswith(".npy") for name in names) else "image_zip"


def _csv_format(file: Path, columns: Columns) -> Format:
    if columns.targets:
        return "table_csv"
    with open_csv(file) as table:
        if columns.inputs is not None or "text" in table.header:
            return "text_csv"
        first = next(islice(table.rows, 1), (0, []))[1]
        others = [value for name, value in zip(table.header, first, strict=False) if name != columns.label]
    if not _are_numbers(others):
        raise Invalid("which column holds the text? Say columns.inputs; or columns.label", param="columns.inputs")
    return "vector_csv"


def _are_numbers(values: Sequence[str]) -> bool:
    try:
        [float(value) for value in values]
    except ValueError:
        return False
    return True
