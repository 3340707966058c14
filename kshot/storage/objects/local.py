"""The object store as files below one folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from kshot.contracts.errors import NotFound
from kshot.storage.objects.abandoned import remove_if_abandoned
from kshot.storage.objects.keys import checked

_STAGING = ".staging"


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

    @contextmanager
    def file(self, key: str) -> Iterator[Path]:
        """Where the blob lies, to be read and not written. Raises NotFound."""
        path = self._path(key)
        if not path.is_file():
            raise NotFound("the stored object is gone")
        yield path

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
                    remove_if_abandoned(Path(folder, name))

    def check(self) -> None:
        """Raises OSError where the folder is not there, or cannot be written to."""
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "the object store's folder cannot be used")

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)


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
