"""JSON as the RFC says and no more. Python's reader is lenient where callers get hurt."""

import json
import re
from typing import Any, NoReturn

from kshot.contracts.errors import Invalid, KshotError, UnreadableBody

_MAX_KEYS = 1000
"""Of one object: no body of ours has more than a few dozen, and each unknown key would become a fault to report."""
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def strict_json(raw: bytes, what: str = "the body") -> Any:
    """The value of a JSON text; errors call it ``what``.

    UnreadableBody (400): no UTF-8, no JSON, nested too deeply, an integer of thousands of digits.
    Invalid (422): NaN or Infinity, a key twice or thousands of keys in one object, NUL or a lone surrogate in a string.
    """
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


def strict_object(raw: bytes, what: str = "the body") -> dict[str, Any]:
    """The same where the body must be an object. Invalid otherwise."""
    value = strict_json(raw, what)
    if not isinstance(value, dict):
        raise Invalid(f"{what} must be a JSON object")
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
