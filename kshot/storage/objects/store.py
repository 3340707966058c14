"""What every object store does."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class ObjectStore(Protocol):
    """Whole blobs in, whole blobs out; a reader sees all of a blob or none of it.

    ``staging``, ``adopt`` and ``file`` are for blobs too large for memory: they are written to a file of any name below
    the staging folder, adopted whole, and read from a local file, which is theirs as long as the context lasts.

    All calls block: call them in a thread. A missing blob is NotFound; a store that is away, full or refuses
    is OSError, whatever it is made of.
    """

    def put(self, key: str, blob: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def staging(self) -> Path: ...

    def adopt(self, key: str, file: Path) -> None: ...

    def file(self, key: str) -> AbstractContextManager[Path]: ...

    def delete(self, key: str) -> None: ...

    def keys(self, folder: str) -> list[str]: ...

    def sweep(self) -> None: ...

    def check(self) -> None: ...
