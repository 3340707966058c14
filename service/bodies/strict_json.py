"""JSON as the RFC says and no more. Readers are lenient where callers get hurt.

orjson reads, eight times as fast as Python's own. Where it refuses, or where it cannot be told that nothing was lost in
its reading, Python's reader with our checks decides; so what is refused, and how, depends on that one alone.
"""

import json
import re
from typing import Any, NoReturn

import orjson

from kshot.contracts.errors import Invalid, KshotError, UnreadableBody

_INT64 = 2.0**63
_MAX_KEYS = 1000
"""Of one object: no body of ours has more than a few dozen, and each unknown key would become a fault to report."""
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class TakesLong(Exception):
    """orjson alone cannot read it."""


def strict_json(raw: bytes, what: str = "the body", *, quick: bool = False) -> Any:
    """The value of a JSON text; errors call it ``what``. ``quick``: TakesLong where orjson alone does not do.

    UnreadableBody (400): no UTF-8, no JSON, nested too deeply, an integer of thousands of digits.
    Invalid (422): NaN or Infinity, a key twice or thousands of keys in one object, NUL or a lone surrogate in a string.
    A number beyond 64 bits (1e400) is read as infinite: whoever reads the field refuses it by name.
    """
    try:
        value = orjson.loads(raw)
        if _read_in_full(value, raw):
            return value
    except orjson.JSONDecodeError:
        pass
    if quick:
        raise TakesLong
    return _slow_json(raw, what)


def strict_object(raw: bytes, what: str = "the body", *, quick: bool = False) -> dict[str, Any]:
    """The same where the body must be an object. Invalid otherwise."""
    value = strict_json(raw, what, quick=quick)
    if not isinstance(value, dict):
        raise Invalid(f"{what} must be a JSON object")
    return value


def _read_in_full(value: Any, raw: bytes) -> bool:
    """Whether orjson's ``value`` certainly is what Python's reader with our checks would give.

    Each entry of an object has a colon of its own in the text, so where there are no more colons than entries found, no
    key was there twice. Lists of lists are not looked into: should objects be in there, their colons are too many. What
    is not seen in there are integers beyond 64 bits, which orjson reads as floats: as a coordinate that is the same.
    """
    if b"\\u0000" in raw:
        return False
    entries, stack = 0, [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            entries += len(item)
            if len(item) > _MAX_KEYS:
                return False
            stack.extend(item.values())
        elif kind is list:
            if item and type(item[0]) is not list:
                stack.extend(item)
        elif kind is float and not -_INT64 < item < _INT64:
            return False
    return not _more_colons(raw, entries)


def _more_colons(raw: bytes, than: int) -> bool:
    """Looks from colon to colon: counting all bytes of a long body takes ten times as long."""
    at = -1
    for _ in range(than + 1):
        at = raw.find(b":", at + 1)
        if at < 0:
            return False
    return True


def _slow_json(raw: bytes, what: str) -> Any:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except KshotError:
        raise
    except UnicodeDecodeError:
        raise UnreadableBody(f"{what} is not UTF-8") from None
    except RecursionError:
        raise UnreadableBody(f"{what} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UnreadableBody(f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise UnreadableBody(f"{what} holds a number of too many digits") from None
    if _SUSPECT.search(text):
        _check_strings(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MAX_KEYS:
        raise Invalid(f"a JSON object may have at most {_MAX_KEYS} keys")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid("a key appears twice in one JSON object")
    return found


def _constant(name: str) -> NoReturn:
    raise Invalid(f"the JSON holds {name}, which is no JSON number; every number must be finite")


def _check_strings(value: Any) -> None:
    """Walks with a stack of its own: depth is the caller's choice."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and _UNSTORABLE.search(item):
            raise Invalid("NUL characters and lone surrogates are not allowed in strings")
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
