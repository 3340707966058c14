"""Requests as values, with everything needed to send one again."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote
from uuid import uuid4

import orjson

from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array, pack

SAFETENSORS = "application/vnd.safetensors"
Param = str | int | list[str]
Report = Callable[[int], None]


class Body(Protocol):
    """What a request carries."""

    def arguments(self) -> dict[str, Any]:
        """What `httpx.Client.build_request` takes; asked for at each attempt."""


@dataclass(frozen=True)
class Content:
    """Bytes of a media type."""

    media_type: str
    data: bytes

    def arguments(self) -> dict[str, Any]:
        return {"content": self.data, "headers": {"Content-Type": self.media_type}}


@dataclass(frozen=True)
class Upload:
    """A multipart body with a file, which is read again at each attempt and never wholly in memory.

    ``report`` hears how many bytes have been read so far.
    """

    fields: Mapping[str, bytes]
    file: Path | bytes
    filename: str
    report: Report = field(compare=False)

    def arguments(self) -> dict[str, Any]:
        opened: BinaryIO = self.file.open("rb") if isinstance(self.file, Path) else io.BytesIO(self.file)
        parts: dict[str, Any] = {name: (None, data, "application/json") for name, data in self.fields.items()}
        parts["file"] = (self.filename, _Watched(opened, self.report), "application/octet-stream")
        return {"files": parts}


@dataclass(frozen=True)
class Request:
    """One request to the service.

    ``patience_s``: how long the service may take on top of the client's timeout. ``repeatable``: sent twice, it has the
    effect of once; others are only repeated where it is sure that nothing happened. ``found_again``: an equal request
    finds what the first one made, so that only repetitions need an idempotency key, which costs the service a
    transaction of its own.
    """

    method: str
    path: str
    params: Mapping[str, Param] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    patience_s: float = 0.0
    repeatable: bool = True
    found_again: bool = False

    def with_headers(self, **headers: str) -> "Request":
        """The same with more headers: ``If_Match`` becomes ``If-Match``."""
        return replace(self, headers={**self.headers, **{name.replace("_", "-"): headers[name] for name in headers}})

    def patient(self, seconds: float) -> "Request":
        """The same, where the service may take so much longer."""
        return replace(self, patience_s=seconds)

    def created_once(self) -> "Request":
        """The same with an idempotency key of its own: however often it is sent, it creates once."""
        return self.with_headers(Idempotency_Key=uuid4().hex)


def at(*parts: str) -> str:
    """A path whose first part is as it stands, and whose others are an object's id and what is asked of it."""
    first, *others = parts
    return "/".join([first, *(quote(part, safe="@") for part in others)])


def json_body(value: object) -> Content:
    """A value as JSON. Raises Invalid for what JSON cannot say: lone surrogates, integers beyond 64 bits."""
    return Content("application/json", to_json(value))


def to_json(value: object) -> bytes:
    """As `json_body`, the bytes alone."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise Invalid(f"this cannot be written as JSON: {error}") from error


def tensor_body(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Content:
    """Settings as a JSON header and arrays as tensors, in one safetensors buffer."""
    to_json(header)  # says what is wrong before the service has to
    return Content(SAFETENSORS, pack(header, arrays))


class _Watched(io.RawIOBase):
    """A file that says how far it has been read. httpx sends it again from the start, so it can be rewound."""

    def __init__(self, file: BinaryIO, report: Report) -> None:
        self._file = file
        self._report = report

    def fileno(self) -> int:
        return self._file.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._report(self._file.tell())
        if not data:
            self._file.close()
        return data
