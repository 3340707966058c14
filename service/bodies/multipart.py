"""Multipart bodies, in memory: the whole body is there already, under its limit."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kshot.contracts.errors import Invalid, UnreadableBody

_MAX_PARTS = 10_000


@dataclass(frozen=True)
class Part:
    """One part: its field name, whether it came as a file, its bytes."""

    name: str
    is_file: bool
    data: bytes


def parse_multipart(data: bytes, boundary: bytes) -> list[Part]:
    """The parts in order. UnreadableBody where the body is malformed or ends early; Invalid for too many parts."""
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": collector.begin,
                "on_header_field": collector.header_name,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.data,
                "on_part_end": collector.end,
                "on_end": collector.finish,
            },
        )
        parser.write(data)
    except FormParserError:
        raise UnreadableBody("the multipart body is malformed") from None
    if not boundary or not collector.complete:
        raise UnreadableBody("the multipart body ends early or has no boundary")
    return collector.parts


@dataclass
class _Collector:
    """Callbacks of the streaming parser, gathered into parts."""

    parts: list[Part] = field(default_factory=list)
    complete: bool = False
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _data: bytearray = field(default_factory=bytearray)

    def begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise Invalid(f"a multipart body may have at most {_MAX_PARTS} parts")
        self._disposition = b""
        self._data = bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def end(self) -> None:
        _, options = parse_options_header(self._disposition)
        try:
            name = options.get(b"name", b"").decode("utf-8")
        except UnicodeDecodeError:
            raise UnreadableBody("a part's name is not UTF-8") from None
        if not name:
            raise UnreadableBody("every part needs a name in its Content-Disposition")
        self.parts.append(Part(name, b"filename" in options, bytes(self._data)))

    def finish(self) -> None:
        self.complete = True
