"""Copies of remote blobs on this machine's disk, for all processes that name the same folder."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

from kshot.storage.objects.abandoned import remove_if_abandoned


@dataclass(frozen=True)
class Copy:
    """A copy of a blob. ``version``: what the store called this content when it was fetched (its ETag)."""

    path: Path
    version: str


class BlobCache:
    """At most ``n_bytes`` of copies, besides those in use; what was used longest ago goes first.

    A copy is written elsewhere and renamed, so it is whole or absent, under a name that no other download has. Whoever
    uses one holds a shared lock on it, which also other processes respect and which ends with its process.
    """

    def __init__(self, folder: Path, n_bytes: int) -> None:
        self._copies, self._n_bytes = folder / "copies", n_bytes
        self.staging = folder / "staging"
        for each in (self._copies, self.staging):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sweep()

    @contextmanager
    def hold(self, key: str) -> Iterator[Copy | None]:
        """The copy of a blob fetched last, held as long as the context lasts; None where there is none."""
        for path in sorted(self._copies.glob(f"{_digest(key)}.*"), key=_last_used, reverse=True):
            with _shared(path) as found:
                if found:
                    os.utime(path)
                    yield Copy(path, unquote(path.name.split(".")[1]))
                    return
        yield None

    @contextmanager
    def add(self, key: str, version: str, written: Path) -> Iterator[Path]:
        """Make a file from ``staging`` a copy, held as long as the context lasts."""
        path = self._copies / f"{_digest(key)}.{quote(version, safe='').replace('.', '%2E')}.{uuid4().hex}"
        try:
            with _shared(written):
                written.replace(path)
                yield path
        finally:
            self.make_room(0)

    def make_room(self, n_bytes: int) -> None:
        """Remove copies that nobody uses until as many bytes more would fit."""
        copies = sorted(self._copies.iterdir(), key=_last_used)
        too_many = sum(map(_size, copies)) + n_bytes - self._n_bytes
        for path in copies:
            if too_many <= 0:
                return
            size = _size(path)
            if _removed(path):
                too_many -= size

    def sweep(self) -> None:
        """Remove what processes that died left in ``staging``."""
        for file in self.staging.iterdir():
            remove_if_abandoned(file)


@contextmanager
def _shared(path: Path) -> Iterator[bool]:
    """Keep others from removing a file; False where somebody did so before."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield os.fstat(file.fileno()).st_nlink > 0


def _removed(path: Path) -> bool:
    """Remove a file that nobody holds."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
