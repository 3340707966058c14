"""JSON that stays JSON, and says something else: one value of it replaced, removed, renamed or copied elsewhere."""

import json
from collections.abc import Iterator
from typing import Any

_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 63, 64, 65, 10**4, 2**31, 2**53 + 1, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, 1e-320,
    1e39, 1e308, "", "0", "1.5", "a", "a" * 70, "x" * 5000, "\u0000", "\ud800", "é", "\u202e", "../x", "a@b", "auto",
    "regression", "classification", "multitask", "ridge", "maml", [], [[]], [None], [1], ["a"], [[1.0]], [[1, "a"]],
    [True], {}, {"a": 1}, {"": None}, {"y": None}, [{}], [0] * 70, ["a"] * 70, "[]", "{}", "2026-01-01T00:00:00Z",
)  # fmt: skip
_MOST_SLOTS = 2000
_MOSTLY = 0x30
"""Of a value: in three of four cases it is the inner JSON that is changed, where there is any."""
_Slot = tuple[Any, Any]
"""A dict or list, and the key or index of a value in it."""


def reshaped(data: bytes, place: int, value: int) -> bytes | None:
    """The bytes with their first JSON object changed: at the value ``place`` counts to, in a way that ``value`` says by
    its bits. None where no object begins near the beginning."""
    start = data.find(b"{", 0, 64)
    if start < 0:
        return None
    try:
        text = data[start:].decode("utf-8", "surrogateescape")
        tree, end = json.JSONDecoder().raw_decode(text)
        changed = json.dumps(_changed(tree, place, value))
    except (ValueError, RecursionError):
        return None
    return data[:start] + changed.encode() + text[end:].encode("utf-8", "surrogateescape")


def _changed(tree: Any, place: int, value: int) -> Any:
    slots = list(_slots(tree))
    if not slots:
        return tree
    headers = [slot for slot in slots if _holds_json(slot[0][slot[1]])]
    asked = headers if headers and value & _MOSTLY else slots
    within, key = asked[place % len(asked)]
    there, other = within[key], slots[(value >> 3) % len(slots)]
    inner = reshaped(there.encode("utf-8", "replace"), place * 31 + value, value >> 6) if _holds_json(there) else None
    if inner is not None:
        within[key] = inner.decode()
    elif value % 8 < 4:
        within[key] = _ODD[(value >> 3) % len(_ODD)]
    elif value % 8 == 4:
        del within[key]
    elif value % 8 == 5:
        within[key] = json.loads(json.dumps(other[0][other[1]]))
    elif isinstance(within, list):
        within.insert(key, there)
    else:
        within[str(other[1])] = within.pop(key)
    return tree


def _holds_json(there: Any) -> bool:
    """The header of a safetensors buffer is JSON as a string within JSON."""
    return isinstance(there, str) and there.startswith("{") and len(there) > 2


def _slots(tree: Any) -> Iterator[_Slot]:
    """Every place of a value, parents first, as far as they can be counted."""
    waiting, count = [tree], 0
    while waiting and count < _MOST_SLOTS:
        within = waiting.pop(0)
        for key, there in within.items() if isinstance(within, dict) else enumerate(within):
            count += 1
            yield within, key
            if isinstance(there, dict | list):
                waiting.append(there)
