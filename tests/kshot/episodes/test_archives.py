"""Hostile archives: refused, and before anything is expanded."""

import io
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kshot.contracts.errors import Invalid, KshotError, TooLarge
from kshot.episodes.archives import ArchiveLimits, open_zip, parse_npy, read_entry, read_npz
from kshot.episodes.vectors import read_vector_npz


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    """npy bytes with any header, true or not."""
    padded = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def test_arrays_come_back() -> None:
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["a", "é"]),
        "flag": np.array([True]),
    }
    found = read_npz(npz(**arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_fortran_order_and_scalars_come_back() -> None:
    table = np.asfortranarray(np.arange(6).reshape(2, 3))
    found = read_npz(npz(table=table, scalar=np.array(7)))
    np.testing.assert_array_equal(found["table"], table)
    assert found["scalar"].shape == () and int(found["scalar"]) == 7


def test_lzma_entries_are_read() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(10))
    assert read_npz(zipped({"x.npy": buffer.getvalue()}, zipfile.ZIP_LZMA))["x"].tolist() == list(range(10))


@pytest.mark.reliability("bad input: npz bomb", "object array")
def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(trace),)

    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([Payload()], dtype=object))
    with pytest.raises(Invalid):
        read_npz(buffer.getvalue())
    assert not trace.exists()


@pytest.mark.reliability("bad input: npz bomb", "lying header")
@pytest.mark.parametrize(
    "data",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", b"\0" * 8),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", b"\0" * 16),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b"\0" * 8),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }", b"\0" * 8),
        npy("{'descr': '|U0', 'fortran_order': False, 'shape': (1000000000000,), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8),
        npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 8),
        npy("{'descr': '<f8', 'shape': (1,), }", b"\0" * 8),
        npy("__import__('os').getcwd()"),
        npy("(" * 100),
        b"\x93NUMPY\x03\x00" + b"\0" * 100,
        b"\x93NUMPY",
        b"",
    ],
)
def test_npy_headers_that_lie_or_break_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_npy(data)


@pytest.mark.reliability("bad input: npz bomb", "nothing allocated")
@pytest.mark.parametrize(
    "data",
    [
        zipped({"x.npy": b"\0" * 100_000_000}),
        zipped({"x.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }", b"\0" * 8)}),
        zipped({"x.npy": npy("{'descr': '<U999999999', 'fortran_order': False, 'shape': (9,), }", b"\0" * 8)}),
        npz(x=np.full(10_000, None, object)),
        zipped({"../x.npy": b"\0" * 1_000_000}),
    ],
    ids=["bomb", "lying shape", "lying type", "objects", "name"],
)
def test_what_is_refused_is_not_expanded_and_nothing_is_allocated_for_it(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(KshotError):
            read_npz(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.reliability("bad input: npz bomb", "names")
@pytest.mark.parametrize("name", ["../x.npy", "a/../../x.npy", "/x.npy", "C:/x.npy", "..\\x.npy"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="leaves its folder"):
        open_zip(zipped({name: b"x"}))


@pytest.mark.reliability("bad input: zip data set", "symlinks")
def test_symbolic_links_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("class/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Invalid, match="symbolic link"):
        open_zip(buffer.getvalue())


@pytest.mark.reliability("bad input: npz bomb", "bomb")
def test_bombs_are_refused_by_their_directory() -> None:
    bomb = zipped({"x.npy": b"\0" * 30_000_000})
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="times"):
        open_zip(bomb)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ArchiveLimits(entries=2), "entries"),
        (ArchiveLimits(entry_bytes=99), "an entry"),
        (ArchiveLimits(total_bytes=299), "expands to more"),
    ],
)
def test_limits_hold(limits: ArchiveLimits, message: str) -> None:
    with pytest.raises(TooLarge, match=message):
        open_zip(zipped(dict.fromkeys("abc", b"x" * 100)), limits)


@pytest.mark.reliability("bad input: zip data set", "entries")
def test_a_million_entries_are_refused_before_the_directory_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *given: parsed.append(given))
    count, size = 65_535, 65_535 * 46
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, 0, 0)
    with pytest.raises(TooLarge):
        open_zip(b"\0" * size + end)
    lying = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 100_000_000, 0, 0)
    with pytest.raises(TooLarge):
        open_zip(lying)
    assert not parsed


def with_end(data: bytes, count: int, locator: bool = False) -> bytes:
    """An archive whose end record says that it has ``count`` entries, and may be preceded by a zip64 locator."""
    at = data.rindex(b"PK\x05\x06")
    fields = struct.unpack("<4s4H2LH", data[at:])
    end = struct.pack("<4s4H2LH", *fields[:3], count, count, *fields[5:])
    if not locator:
        return data[:at] + end
    size, start = fields[5:7]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, fields[4], fields[4], size, start)
    harmless = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 46, 0, 0)
    return data[:at] + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1) + harmless


@pytest.mark.parametrize("locator", [False, True])
def test_more_entries_than_the_end_record_says_are_refused_unparsed(
    locator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = with_end(zipped(dict.fromkeys("abc", b"x")), 1, locator)
    assert len(zipfile.ZipFile(io.BytesIO(lying)).namelist()) == 3, "which zipfile would have parsed"
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(TooLarge, match="zip64" if locator else "more than 2 entries"):
        open_zip(lying, ArchiveLimits(entries=2))


def test_an_entry_larger_than_its_directory_says_never_expands() -> None:
    """The directory of this bomb claims 10 bytes; 5 million are in it."""
    honest = zipped({"x.bin": b"\0" * 5_000_000})
    lying = honest.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10))
    with open_zip(lying) as archive:
        try:
            assert len(read_entry(archive, "x.bin")) <= 10
        except Invalid:
            pass


def test_names_given_twice_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", b"1")
        archive.writestr("x.npy", b"2")
    with pytest.raises(Invalid, match="twice"):
        open_zip(buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all", b"\x80\x04\x95", zipped({"x.npy": b"1"})[:-10]])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        open_zip(data)


def test_damaged_bytes_never_raise_anything_else() -> None:
    whole, rng = npz(x=np.arange(500), y=np.array(["a", "b"])), np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            spoiled[at] = rng.integers(256)
        try:
            read_npz(bytes(spoiled))
        except KshotError:
            pass


def test_npz_holds_arrays_alone() -> None:
    with pytest.raises(Invalid, match=r"\.npy"):
        read_npz(zipped({"readme.txt": b"hello"}))


def test_vectors_and_labels_make_a_pool() -> None:
    pool = read_vector_npz(npz(inputs=np.eye(4), labels=np.array([3, 1, 3, 1])))
    assert pool.classes == ("1", "3")
    assert [rows.tolist() for rows in pool.rows] == [[1, 3], [0, 2]]
    assert pool.inputs.dtype == np.float32


@pytest.mark.parametrize(
    "arrays",
    [
        {"inputs": np.eye(3)},
        {"inputs": np.eye(3), "labels": np.arange(2)},
        {"inputs": np.arange(3), "labels": np.arange(3)},
        {"inputs": np.eye(3) * np.nan, "labels": np.arange(3)},
        {"inputs": np.eye(3), "labels": np.linspace(0, 1, 3)},
    ],
)
def test_vectors_of_the_wrong_kind_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(Invalid):
        read_vector_npz(npz(**arrays))
