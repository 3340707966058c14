"""Files of data sets: streamed into the store's staging folder, hashed on the way, read through in a child process."""

import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from anyio import BrokenWorkerProcess, CancelScope, CapacityLimiter, fail_after, to_process, to_thread
from starlette.requests import Request

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid, TooLarge, Unavailable
from kshot.episodes.datasets import Asked, inspect
from kshot.episodes.omniglot import write_omniglot_zip
from kshot.storage.objects import ObjectStore
from service.bodies.multipart import MultipartReader, Sink
from service.bodies.stream import read_chunks
from service.state import State

T = TypeVar("T")
_MAX_REQUEST_BYTES = 64 * 1024
_MAX_SPLITS_BYTES = 8 * 2**20
_AROUND = _MAX_REQUEST_BYTES + _MAX_SPLITS_BYTES + 64 * 1024
"""What a body may hold besides the file."""
_PIECE = 2**20
_NICE = 10
_TOO_MUCH_MEMORY = "reading it took more memory than there is; send less"


@dataclass(frozen=True)
class Upload:
    """A body that is all here. ``request``, ``splits``: JSON, as sent; ``filename``: of the file, as sent."""

    request: bytes
    splits: bytes | None
    file: Path
    filename: str
    sha256: str


@asynccontextmanager
async def staged(objects: ObjectStore) -> AsyncIterator[Path]:
    """A place for a file, on the store's file system; what is left there at the end is removed, whatever happened."""
    folder = await to_thread.run_sync(objects.staging)
    file = folder / f"upload-{uuid4().hex}"
    try:
        yield file
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(lambda: file.unlink(missing_ok=True))


async def receive(request: Request, boundary: bytes, file: Path, limit: int) -> Upload:
    """Take a multipart body: `request`, `file` and perhaps `splits`, in any order, the file never in memory.

    UnreadableBody: no multipart. Invalid: a part is missing, unknown or there twice. TooLarge: over ``limit``.
    Unavailable: the store has no room.
    """
    with store_may_be_full(), _Receiver(boundary, file, limit) as receiver:
        piece = bytearray()
        async for chunk in read_chunks(request, limit + _AROUND):
            piece += chunk
            if len(piece) >= _PIECE:
                await to_thread.run_sync(receiver.feed, bytes(piece))
                piece.clear()
        await to_thread.run_sync(receiver.feed, bytes(piece))
        return receiver.finish()


async def check_file(state: State, file: Path, asked: Asked) -> DatasetManifest:
    """What the file holds; read in a child process. Raises what `inspect` raises, TooLarge where it takes too much."""
    return await in_child(state, _inspect, file, asked)


async def bring_omniglot(state: State, file: Path, asked: Asked) -> tuple[DatasetManifest, str]:
    """Write the operator's Omniglot to ``file``, as a zip of class folders; its manifest, and the digest of the file.

    Raises Invalid, with the remedy, where there is none.
    """
    if state.settings.data is None:
        raise Invalid(
            "this server has no data folder; ask the operator to set KSHOT_DATA, or upload a zip of the characters",
            param="source",
        )
    with store_may_be_full():
        return await in_child(state, _bring_omniglot, state.settings.data, file, asked)


class _Receiver:
    """The parts of one body. Its methods run in threads: they write to the disk."""

    def __init__(self, boundary: bytes, file: Path, limit: int) -> None:
        self._path, self._limit = file, limit
        self._file = file.open("xb")
        self._digest = hashlib.sha256()
        self._fields: dict[str, io.BytesIO] = {}
        self._filename: str | None = None
        try:
            self._reader = MultipartReader(boundary, self._open_part)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "_Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def feed(self, piece: bytes) -> None:
        self._reader.feed(piece)

    def finish(self) -> Upload:
        self._reader.close()
        if "request" not in self._fields:
            raise Invalid('send a part named request, such as {"name": "my-data"}', param="request")
        if self._filename is None:
            raise Invalid("send the data in a part named file", param="file")
        self._file.flush()
        splits = self._fields.get("splits")
        return Upload(
            self._fields["request"].getvalue(),
            None if splits is None else splits.getvalue(),
            self._path,
            self._filename,
            self._digest.hexdigest(),
        )

    def _open_part(self, name: str, filename: str | None) -> Sink:
        if name in self._fields or (name == "file" and self._filename is not None):
            raise Invalid(f"one part named {name} is enough", param=name)
        if name == "file":
            self._filename = filename or ""
            return self._write_file
        limits = {"request": _MAX_REQUEST_BYTES, "splits": _MAX_SPLITS_BYTES}
        if name not in limits:
            raise Invalid("parts are named request, file and splits", param=name[:100])
        self._fields[name] = io.BytesIO()
        return lambda data: self._write_field(name, data, limits[name])

    def _write_field(self, name: str, data: bytes, limit: int) -> None:
        if self._fields[name].tell() + len(data) > limit:
            raise TooLarge(f"this part may have at most {limit} bytes", param=name)
        self._fields[name].write(data)

    def _write_file(self, data: bytes) -> None:
        if self._file.tell() + len(data) > self._limit:
            raise TooLarge(f"the file may have at most {self._limit} bytes", param="file")
        self._digest.update(data)
        self._file.write(data)


@contextmanager
def store_may_be_full() -> Iterator[None]:
    """A disk that is full or broken becomes 503."""
    try:
        yield
    except OSError as error:
        raise Unavailable("the object store cannot take the file now; try again later", retry_after=60) from error


async def in_child(state: State, work: Callable[..., T], *arguments: object) -> T:
    """A bomb, a decoder that crashes or hours of work end a process that nobody else needs. Time spent waiting for one
    of ``state.checkers`` is not the file's fault and does not count."""
    seconds = state.settings.dataset_check_s
    try:
        async with state.checkers:
            with fail_after(seconds):
                return await to_process.run_sync(work, *arguments, cancellable=True, limiter=CapacityLimiter(1))
    except TimeoutError:
        raise TooLarge(f"reading it takes more than {seconds:g} seconds; send less", param="file") from None
    except BrokenWorkerProcess:
        raise TooLarge(_TOO_MUCH_MEMORY, param="file") from None


def _inspect(file: Path, asked: Asked) -> DatasetManifest:
    """In the child: requests go before it, and where memory runs out, Linux is to end it and not the service."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        return inspect(file, asked)
    except MemoryError:
        raise TooLarge(_TOO_MUCH_MEMORY, param="file") from None


def _bring_omniglot(folder: Path, file: Path, asked: Asked) -> tuple[DatasetManifest, str]:
    splits = write_omniglot_zip(folder, file)
    manifest = _inspect(file, Asked(id=asked.id, name=asked.name, format="image_zip", splits=splits))
    with file.open("rb") as opened:
        return manifest, hashlib.file_digest(opened, "sha256").hexdigest()
