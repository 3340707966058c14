"""The object store: immutable blobs under keys the server makes. A local folder for now; S3 answers the same calls."""

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from kshot.contracts.errors import NotFound

_ABANDONED_S = 3600
_STAGING = ".staging"
_KEY = re.compile(r"[a-z]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


class ObjectStore(Protocol):
    """Whole blobs in, whole blobs out; a reader sees all of a blob or none of it.

    ``staging``, ``adopt`` and ``file`` are for blobs too large for memory: they are written to a file of any name below
    the staging folder, adopted whole, and read where they lie.
    """

    def put(self, key: str, blob: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def staging(self) -> Path: ...

    def adopt(self, key: str, file: Path) -> None: ...

    def file(self, key: str) -> Path: ...

    def delete(self, key: str) -> None: ...

    def keys(self, folder: str) -> list[str]: ...

    def sweep(self) -> None: ...


class LocalObjects:
    """Blobs as files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, blob: bytes) -> None:
        """Write to a temporary name, fsync, rename, fsync the folder: a crash or a full disk leaves no partial blob,
        and a blob once put outlives a power loss."""
        path = self._path(key)
        _make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        """The blob. Raises NotFound."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise NotFound("the stored object is gone") from None

    def staging(self) -> Path:
        """A folder on the store's own file system, for what is not whole yet. What writers that died leave there goes
        an hour after its last byte."""
        folder = self._folder / _STAGING
        _make_folder(folder)
        return folder

    def adopt(self, key: str, file: Path) -> None:
        """Make a staged file the blob: fsync, rename, fsync the folder. Afterwards it is gone from where it was."""
        path = self._path(key)
        _make_folder(path.parent)
        _sync(file)
        file.replace(path)
        _sync(path.parent)

    def file(self, key: str) -> Path:
        """Where the blob lies, to be read and not written. Raises NotFound."""
        path = self._path(key)
        if not path.is_file():
            raise NotFound("the stored object is gone")
        return path

    def delete(self, key: str) -> None:
        """Remove the blob; it may be gone already."""
        self._path(key).unlink(missing_ok=True)

    def keys(self, folder: str) -> list[str]:
        """The keys that begin with ``folder`` and a slash, by name."""
        below = self._folder / folder
        found = (Path(at, name) for at, _, names in os.walk(below) for name in names if not name.startswith("."))
        return sorted(path.relative_to(self._folder).as_posix() for path in found)

    def sweep(self) -> None:
        """Remove what writers that died left half-written more than an hour ago."""
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if name.startswith(".") or Path(folder).name == _STAGING:  # no key has a part with a dot first
                    self._remove_if_old(Path(folder, name))

    def _remove_if_old(self, temporary: Path) -> None:
        try:
            if temporary.stat().st_mtime < time.time() - _ABANDONED_S:
                temporary.unlink()
        except FileNotFoundError:
            pass

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("not an object key")
        return self._folder / key


def state_key(task_id: str, attempt: int) -> str:
    """Where the state that an attempt made lies: a key of its own, so that two attempts never write one object."""
    return f"states/{task_id}-{attempt}.safetensors"


def state_keys(task_id: str, attempts: int) -> list[str]:
    """Where the states of a task's first ``attempts`` attempts may lie."""
    return [state_key(task_id, attempt + 1) for attempt in range(attempts)]


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """A file's bytes, or the names in a folder: they reach the disk with the folder alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(blob: bytes) -> str:
    """The hex digest by which stored blobs are checked when they are read back."""
    return hashlib.sha256(blob).hexdigest()
