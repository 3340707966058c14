"""Arrays and a small JSON header in one safetensors buffer: the payload of tasks and stored states.

Safetensors cannot hold code, so nothing from outside the process is ever unpickled.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from kshot.contracts.errors import Invalid

Array = NDArray[Any]
Inputs = Array | list[str]
"""A block of inputs in canonical form: texts as a list, everything else as an array with one row per input."""

_DTYPES: dict[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
}  # fmt: skip


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """``header`` (JSON-able) and ``arrays`` as one safetensors buffer."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(contiguous, metadata={"header": json.dumps(header, separators=(",", ":"))})


def unpack(buffer: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a buffer made by :func:`pack`. Raises Invalid as :func:`split` does."""
    text, arrays = split(buffer)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("the safetensors metadata entry 'header' is not JSON") from error
    if not isinstance(header, dict):
        raise Invalid("the safetensors metadata entry 'header' must be a JSON object")
    return header, arrays


def peek(buffer: bytes) -> dict[str, Any]:
    """The header of a buffer made by :func:`pack`, without looking at its arrays. Raises Invalid."""
    try:
        header: dict[str, Any] = json.loads(_metadata(buffer)["header"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid("the body is not a valid safetensors buffer with a header") from error
    return header


def split(buffer: bytes) -> tuple[str, dict[str, Array]]:
    """The text of the metadata entry ``header`` (``{}`` without one) and the arrays, for bodies a caller made.

    Raises Invalid where the buffer is truncated, overlaps, has trailing bytes, an unknown dtype or an odd shape.
    """
    arrays = {name: _array(tensor) for name, tensor in _tensors(buffer)}
    return str(_metadata(buffer).get("header", "{}")), arrays


def _metadata(buffer: bytes) -> dict[str, Any]:
    length = int.from_bytes(buffer[:8], "little")
    return json.loads(buffer[8 : 8 + length]).get("__metadata__") or {}  # safetensors reads null as none


def _tensors(buffer: bytes) -> list[tuple[str, dict[str, Any]]]:
    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(buffer)  # type: ignore[no-untyped-call]
        return tensors
    except (SafetensorError, ValueError, OverflowError) as error:
        raise Invalid("the body is not a valid safetensors buffer") from error


def _array(tensor: Mapping[str, Any]) -> Array:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise Invalid(f"dtype {tensor['dtype']} is not supported; send one of {', '.join(_DTYPES)}")
    try:
        return np.frombuffer(tensor["data"], dtype=dtype).reshape(tensor["shape"])
    except (ValueError, OverflowError) as error:  # shapes that multiply to the right size, and that numpy cannot hold
        raise Invalid("a tensor's shape has too many or too large dimensions") from error


@contextmanager
def header_of(what: str) -> Iterator[None]:
    """Around whatever reads a header: Invalid where it is not one of ``what``, because a field is missing or odd."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Invalid(f"the header is not that of {what}") from error


def put_inputs(arrays: dict[str, Array], header: dict[str, Any], name: str, inputs: Inputs) -> None:
    """Store a block of inputs under ``name``: arrays as a tensor, texts in the header."""
    if isinstance(inputs, list):
        header[name] = inputs
    else:
        arrays[name] = inputs


def get_inputs(arrays: Mapping[str, Array], header: Mapping[str, Any], name: str) -> Inputs | None:
    """The block stored by :func:`put_inputs` under ``name``; None where there is none. Raises Invalid for no rows."""
    if name in arrays and arrays[name].ndim:
        return arrays[name]
    texts: Any = header.get(name)
    are_texts = isinstance(texts, list) and all(isinstance(one, str) for one in texts)
    if name in arrays or not (texts is None or are_texts):
        raise Invalid("inputs are one row each: a tensor, or a list of texts", param=name)
    return cast(list[str] | None, texts)
