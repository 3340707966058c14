"""Valid files -> damaged ones. Every damage is a list of edits, each of three numbers, so that hypothesis can draw (and
shrink) it as well as a seeded generator of random numbers, and both mean the same by it."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from tests.fuzzing.reshaping import reshaped

_ENDS: tuple[Literal["little", "big"], ...] = ("little", "big")
_ODD_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_ODD_WORDS = [
    (number & (2 ** (8 * size) - 1)).to_bytes(size, end)
    for number in _ODD_NUMBERS
    for end in _ENDS
    for size in (1, 2, 4, 8)
]
_ODD_TEXTS = [
    b"-1", b"0", b"1e400", b"-1e999", b"NaN", b"Infinity", b"1" * 400, b"9223372036854775808", b"1e-9", b"true",
    b"null", b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"', b"\xef\xbb\xbf", b"\xff\xfe", b"\xc0\x80",
    b"\xed\xa0\x80", b"\0", b"../", b"..\\", b"%2e%2e/", b"/etc/passwd", b"file:///", b"http://169.254.169.254/",
    b"__proto__", b"\r\n", b"\n\n", b"'", b'"', b"\\", b"[" * 300, b'{"a":' * 300, b",", b";", b"\t", b"=",
    b"\x80", "²٣".encode(), "\u202e".encode(),
]  # fmt: skip
_NUMBER = re.compile(rb"-?\d[\d.eE+-]*")
_MOST_BYTES = 200_000
"""Of a damaged file: edits that double could make it any length."""


class Edit(NamedTuple):
    """``kind``: which of `EDITS`, by remainder. ``at``: where, as a share of 65,536. ``value``: what, by its bits."""

    kind: int
    at: int
    value: int


class Stock(NamedTuple):
    """What edits take from: ``tokens`` of the format, and other valid files of it."""

    tokens: Sequence[bytes]
    others: Sequence[bytes]


def draw_edits(chance: random.Random) -> list[Edit]:
    """Mostly few: most of a file must stay valid for a decoder to come far. Half of the lists are of one kind, so that
    some files stay JSON, or keep their length."""
    count, kind = 1 + min(int(chance.expovariate(0.7)), 12), chance.getrandbits(16)
    of_one_kind = chance.random() < 0.5
    return [
        Edit(kind if of_one_kind else chance.getrandbits(16), chance.getrandbits(16), chance.getrandbits(32))
        for _ in range(count)
    ]


def damage(data: bytes, edits: Sequence[Edit], stock: Stock) -> bytes:
    """The file with these edits, one after the other."""
    damaged = bytearray(data)
    for edit in edits:
        change = EDITS[edit.kind % len(EDITS)]
        change(damaged, edit.at * len(damaged) >> 16, edit.value, stock)
        del damaged[_MOST_BYTES:]
    return bytes(damaged)


def _flip_bit(data: bytearray, at: int, value: int, stock: Stock) -> None:
    if data:
        data[at] ^= 1 << value % 8


def _set_byte(data: bytearray, at: int, value: int, stock: Stock) -> None:
    data[at : at + 1] = bytes([value & 255])


def _overwrite_word(data: bytearray, at: int, value: int, stock: Stock) -> None:
    """Lengths, counts and offsets lie."""
    word = _ODD_WORDS[value % len(_ODD_WORDS)]
    data[at : at + len(word)] = word


def _change_number(data: bytearray, at: int, value: int, stock: Stock) -> None:
    """A number that is written as text."""
    found = _NUMBER.search(data, at) or _NUMBER.search(data)
    if found:
        data[found.start() : found.end()] = _ODD_TEXTS[value % 12]


def _insert_text(data: bytearray, at: int, value: int, stock: Stock) -> None:
    data[at:at] = _ODD_TEXTS[value % len(_ODD_TEXTS)]


def _insert_token(data: bytearray, at: int, value: int, stock: Stock) -> None:
    if stock.tokens:
        data[at:at] = stock.tokens[value % len(stock.tokens)]


def _overwrite_token(data: bytearray, at: int, value: int, stock: Stock) -> None:
    if stock.tokens:
        token = stock.tokens[value % len(stock.tokens)]
        data[at : at + len(token)] = token


def _swap_token(data: bytearray, at: int, value: int, stock: Stock) -> None:
    """One word of the format for another: a field's name, a marker, a type."""
    if stock.tokens:
        there = data.find(stock.tokens[value % len(stock.tokens)], at)
        if there >= 0:
            length = len(stock.tokens[value % len(stock.tokens)])
            data[there : there + length] = stock.tokens[(value >> 16) % len(stock.tokens)]


def _insert_noise(data: bytearray, at: int, value: int, stock: Stock) -> None:
    data[at:at] = random.Random(value).randbytes(1 + value % 40)


def _cut_end(data: bytearray, at: int, value: int, stock: Stock) -> None:
    del data[at:]


def _cut_out(data: bytearray, at: int, value: int, stock: Stock) -> None:
    del data[at : at + 1 + value % 32]


def _repeat(data: bytearray, at: int, value: int, stock: Stock) -> None:
    data[at:at] = data[at : at + 1 + value % 200]


def _move(data: bytearray, at: int, value: int, stock: Stock) -> None:
    piece = data[at : at + 1 + value % 64]
    del data[at : at + len(piece)]
    there = (value >> 8) % (len(data) + 1)
    data[there:there] = piece


def _splice(data: bytearray, at: int, value: int, stock: Stock) -> None:
    """The beginning of this file and the end of another."""
    if stock.others:
        other = stock.others[value % len(stock.others)]
        data[at:] = other[min(at, (value >> 8) % (len(other) + 1)) :]


_ANY: Sequence[Callable[[bytearray, int, int, Stock], None]] = (
    _flip_bit, _flip_bit, _set_byte, _overwrite_word, _change_number, _insert_text, _insert_token, _overwrite_token,
    _swap_token, _insert_noise, _cut_end, _cut_out, _repeat, _move, _splice,
)  # fmt: skip


def _reshape(data: bytearray, at: int, value: int, stock: Stock) -> None:
    """JSON that stays JSON; to a file that is none, another edit."""
    changed = reshaped(bytes(data), at, value)
    if changed is None:
        _ANY[value % len(_ANY)](data, at, value >> 4, stock)
    else:
        data[:] = changed


EDITS = (*_ANY, *[_reshape] * len(_ANY))
