"""Multipart bodies: whole ones in memory, and long ones piece by piece."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kshot.contracts.errors import Invalid, UnreadableBody

_MAX_PARTS = 10_000

Sink = Callable[[bytes], object]
OpenPart = Callable[[str, str | None], Sink]
"""(name, file name or None for a plain field) -> what takes the part's bytes, as they come."""


@dataclass(frozen=True)
class Part:
    """One part: its field name, whether it came as a file, its bytes."""

    name: str
    is_file: bool
    data: bytes


def parse_multipart(data: bytes, boundary: bytes) -> list[Part]:
    """The parts in order. UnreadableBody where the body is malformed or ends early; Invalid for too many parts."""
    gathered: list[tuple[str, bool, bytearray]] = []

    def open_part(name: str, filename: str | None) -> Sink:
        gathered.append((name, filename is not None, bytearray()))
        return gathered[-1][2].extend

    reader = MultipartReader(boundary, open_part)
    reader.feed(data)
    reader.close()
    return [Part(name, is_file, bytes(content)) for name, is_file, content in gathered]


class MultipartReader:
    """A multipart body piece by piece; holds no more than the headers of one part.

    UnreadableBody: malformed, or a part without a name. Invalid: too many parts.
    """

    def __init__(self, boundary: bytes, open_part: OpenPart) -> None:
        self._open_part = open_part
        self._complete = False
        self._parts = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._sink: Sink = len
        with _malformed():
            self._parser = MultipartParser(
                boundary,
                callbacks={
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._write,
                    "on_end": self._end,
                },
            )
        if not boundary:
            raise UnreadableBody("the multipart body has no boundary")

    def feed(self, data: bytes) -> None:
        """The next bytes of the body; their parts' content has reached its sinks afterwards."""
        with _malformed():
            self._parser.write(data)

    def close(self) -> None:
        """Raise UnreadableBody where the body ended early."""
        if not self._complete:
            raise UnreadableBody("the multipart body ends early")

    def _begin(self) -> None:
        if self._parts == _MAX_PARTS:
            raise Invalid(f"a multipart body may have at most {_MAX_PARTS} parts")
        self._parts += 1
        self._disposition = b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._sink(data[start:end])

    def _end_header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        try:
            name = options.get(b"name", b"").decode("utf-8")
        except UnicodeDecodeError:
            raise UnreadableBody("a part's name is not UTF-8") from None
        if not name:
            raise UnreadableBody("every part needs a name in its Content-Disposition")
        filename = options.get(b"filename")
        self._sink = self._open_part(name, None if filename is None else filename.decode("utf-8", "replace"))

    def _end(self) -> None:
        self._complete = True


@contextmanager
def _malformed() -> Iterator[None]:
    try:
        yield
    except FormParserError:
        raise UnreadableBody("the multipart body is malformed") from None
