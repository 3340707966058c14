"""Zip and npz archives from anywhere, read without trusting a byte of them.

Every refusal happens before the bytes it is about are expanded: entries are counted in the bytes of the directory
before it is parsed, sizes and ratios from the directory before an entry is opened, shape and dtype from
the npy header before an array is made. Pickled objects are never loaded.
"""

import io
import math
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from kshot.contracts.errors import Invalid, TooLarge
from kshot.contracts.wire import Array

_END = struct.Struct("<4s4H2LH")
_LOCATOR = 20
"""Bytes of the zip64 locator, which lies right before the end record and replaces what that one says."""
_END_TAIL = _LOCATOR + _END.size + 0xFFFF
_DIRECTORY_BYTES = 512  # of one entry, at most on average
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA}
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS = frozenset("biufUS")
_ENCRYPTED = 0x1
_MEGABYTE = 2**20


@dataclass(frozen=True)
class ArchiveLimits:
    """Bytes are expanded ones; ``ratio`` is expanded / stored, of any entry over 1 MiB."""

    entries: int = 100_000
    entry_bytes: int = 512 * _MEGABYTE
    total_bytes: int = 2048 * _MEGABYTE
    ratio: int = 200


def open_zip(source: bytes | Path, limits: ArchiveLimits = ArchiveLimits()) -> zipfile.ZipFile:
    """An archive whose directory was checked: names, links, counts, sizes, ratios.

    Raises Invalid for an archive that is broken or hostile, TooLarge for one over ``limits``.
    """
    try:
        raw = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise Invalid("the archive cannot be read") from error
    _check_directory(raw, limits)
    try:
        archive = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise Invalid("not a readable zip archive") from error
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise TooLarge(f"the archive has more than {limits.entries} entries")
    if len({entry.filename for entry in entries}) != len(entries):
        raise Invalid("the archive names an entry twice")
    for entry in entries:
        _check_entry(entry, limits)
    if sum(entry.file_size for entry in entries) > limits.total_bytes:
        raise TooLarge(f"the archive expands to more than {limits.total_bytes} bytes")
    return archive


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one entry of an archive from :func:`open_zip`; never more than its checked size."""
    try:
        with archive.open(name) as stream:
            return stream.read(archive.getinfo(name).file_size)
    except Exception as error:  # zlib, lzma and zipfile each raise their own kind on damaged data
        raise Invalid("an entry of the archive is damaged") from error


def read_npz(source: bytes | Path, limits: ArchiveLimits = ArchiveLimits()) -> dict[str, Array]:
    """The arrays of an npz archive: numbers, booleans and strings, never objects."""
    with open_zip(source, limits) as archive:
        return dict(_arrays(archive))


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, Array]]:
    for entry in archive.infolist():
        if not entry.filename.endswith(".npy"):
            raise Invalid("an npz archive may hold .npy entries only")
        yield entry.filename.removesuffix(".npy"), parse_npy(read_entry(archive, entry.filename))


def parse_npy(data: bytes) -> Array:
    """One array from npy bytes whose header tells the truth about them. The array is read-only."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy tells whoever reads the log that a header is old
            shape, fortran, dtype = _HEADERS[npy.read_magic(stream)](stream)
    except Exception as error:  # the header is a Python literal; parsing one can fail in a dozen ways
        raise Invalid("the npy header is not readable") from error
    if dtype.hasobject or dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise Invalid("npy arrays must hold numbers, booleans or strings")
    size = math.prod(shape)
    if any(length < 0 for length in shape) or size * dtype.itemsize != len(data) - stream.tell():
        raise Invalid("the npy header does not agree with the size of its data")
    return np.frombuffer(data, dtype, size, stream.tell()).reshape(shape, order="F" if fortran else "C")


def _check_directory(raw: "io.BufferedIOBase | io.BytesIO", limits: ArchiveLimits) -> None:
    """Refuse a directory that is too long before it is parsed. What the end record counts may be a lie, so what
    zipfile would parse is counted: that many bytes right before the end record."""
    length = raw.seek(0, io.SEEK_END)
    start = raw.seek(max(0, length - _END_TAIL))
    tail = raw.read(_END_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise Invalid("not a readable zip archive")
    fields = _END.unpack_from(tail, at)
    count, directory_bytes = fields[4], fields[5]
    if count == 0xFFFF or directory_bytes == 0xFFFFFFFF or tail[: max(0, at - _LOCATOR + 4)].endswith(b"PK\x06\x07"):
        raise TooLarge("archives in zip64 form are not accepted: too many entries or bytes")
    too_many = TooLarge(f"the archive has more than {limits.entries} entries")
    if count > limits.entries or directory_bytes > limits.entries * _DIRECTORY_BYTES:
        raise too_many
    raw.seek(max(0, start + at - directory_bytes))
    if raw.read(directory_bytes).count(b"PK\x01\x02") > limits.entries:
        raise too_many


def _check_entry(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name = entry.orig_filename
    parts = name.split("/")
    if "\\" in name or "\0" in name or name.startswith("/") or ".." in parts or ":" in parts[0]:
        raise Invalid("the archive holds a name that leaves its folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise Invalid("the archive holds a symbolic link")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
        raise Invalid("the archive uses encryption or an unusual compression")
    if entry.file_size > limits.entry_bytes:
        raise TooLarge(f"an entry of the archive expands to more than {limits.entry_bytes} bytes")
    if entry.file_size > _MEGABYTE and entry.file_size > limits.ratio * max(1, entry.compress_size):
        raise TooLarge(f"an entry of the archive expands more than {limits.ratio} times")
