"""A body from the wire into memory, never more of it than the limit."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from kshot.contracts.errors import TooLarge, UnsupportedMediaType

JSON = "application/json"
MULTIPART = "multipart/form-data"
SAFETENSORS = "application/vnd.safetensors"
ANY = (JSON, MULTIPART, SAFETENSORS)
SMALL_BYTES = 64 * 1024
"""Limit of bodies that hold settings alone. Others up to here are read before it is known who sends them, where that
is guessed from the request before."""


@dataclass(frozen=True)
class Raw:
    """A whole body with its media type. ``quick``: raise `TakesLong` rather than read it by the slow reader."""

    media_type: str
    boundary: bytes
    data: bytes
    quick: bool = False

    @property
    def cost(self) -> int:
        """Bytes as they count where time does: a form of many small parts takes four times as long and more."""
        return 4 * len(self.data) if self.media_type == MULTIPART else len(self.data)


async def read_raw(request: Request, limit: int, accepted: tuple[str, ...] = (JSON,)) -> Raw:
    """The body. TooLarge as soon as the limit is passed, announced or not; UnsupportedMediaType before reading."""
    name, boundary = media_type_of(request, accepted)
    return Raw(name, boundary, b"".join([chunk async for chunk in read_chunks(request, limit)]))


def announced_small(request: Request) -> bool:
    """Whether the headers say that the body is small."""
    announced = request.headers.get("content-length", "")
    return announced.isdecimal() and len(announced) <= 6 and int(announced) <= SMALL_BYTES


def media_type_of(request: Request, accepted: tuple[str, ...]) -> tuple[str, bytes]:
    """One of the accepted media types, and the boundary of multipart. Raises UnsupportedMediaType."""
    name, boundary = request.headers.get("content-type", ""), b""
    if name not in accepted or name == MULTIPART:
        media_type, options = parse_options_header(name)
        name, boundary = media_type.decode("latin-1").lower(), options.get(b"boundary", b"")
    if name not in accepted:
        raise UnsupportedMediaType(f"send Content-Type: {' or '.join(accepted)}", param="Content-Type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read", param="Content-Encoding")
    return name, boundary


async def read_chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives. TooLarge as soon as the limit is passed, announced or not."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a body may have at most {limit} bytes")
