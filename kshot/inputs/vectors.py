"""Lists of numbers -> canonical float32 vectors."""

import struct
from collections.abc import Sequence

import numpy as np

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array

MAX_WIDTH = 65_536


def read_vectors(values: Sequence[object], spec: VectorInput, param: str) -> Array:
    """JSON lists of numbers -> float32 (n, width). All equally wide, finite; true is no number and "1" neither."""
    vectors = _packed(values, spec.width)
    if vectors is None or _maybe_truths(vectors):
        _check_rows(values, spec.width, param)  # says what is wrong, if anything is
    if vectors is None:
        raise Invalid("a number is too large for a 32-bit float", param=param)
    return _finite(vectors, param)


def _packed(values: Sequence[object], width: int | None) -> Array | None:
    """The rows as float32, twice as fast as numpy reads lists. None where one is no list, of another width, or holds
    what is no number, or an integer beyond 64-bit floats; true and false pass as 1 and 0."""
    first = values[0]
    if not isinstance(first, list) or not 0 < len(first) <= MAX_WIDTH or width not in (None, len(first)):
        return None
    row_of = struct.Struct(f"{len(first)}f")
    rows = bytearray(row_of.size * len(values))
    try:
        for i, row in enumerate(values):
            if type(row) is not list:
                return None
            row_of.pack_into(rows, i * row_of.size, *row)
    except (struct.error, OverflowError):
        return None
    return np.frombuffer(rows, dtype=np.float32).reshape(len(values), -1)


def _maybe_truths(vectors: Array) -> bool:
    """Whether true or false may be among the values: they are 1 and 0 by now, as few coordinates are."""
    return bool(((vectors == 0) | (vectors == 1)).any())


def _check_rows(values: Sequence[object], width: int | None, param: str) -> None:
    """Raises Invalid naming the first row, or the first number in it, that is off."""
    for i, row in enumerate(values):
        if not isinstance(row, list) or not row:
            raise Invalid(f"expected {_expected(width)}", param=f"{param}[{i}]")
        width = _check_width(len(row), width, f"{param}[{i}]")
        if not set(map(type, row)) <= {int, float}:
            position = next(j for j, value in enumerate(row) if type(value) not in (int, float))
            raise Invalid(f"not a number; expected {_expected(width)}", param=f"{param}[{i}][{position}]")


def check_vector_tensor(tensor: Array, spec: VectorInput, param: str) -> Array:
    """A tensor (n, width) of floats or integers -> float32."""
    if tensor.ndim != 2 or tensor.dtype.kind not in "fiu" or tensor.shape[1] == 0:
        width = "width" if spec.width is None else spec.width
        raise Invalid(
            f"expected numbers of shape (n, {width}), got {tensor.dtype} of shape {tensor.shape}", param=param
        )
    _check_width(tensor.shape[1], spec.width, param)
    return _float32(tensor, param)


def _check_width(found: int, wanted: int | None, param: str) -> int:
    if found > MAX_WIDTH:
        raise Invalid(f"{found} numbers; at most {MAX_WIDTH} are read", param=param)
    if wanted is not None and found != wanted:
        raise Invalid(f"{found} numbers; expected {_expected(wanted)}", param=param)
    return found


def _expected(width: int | None) -> str:
    return "a list of numbers" if width is None else f"a list of {width} numbers"


def _float32(array: Array, param: str) -> Array:
    with np.errstate(over="ignore"):
        return _finite(array.astype(np.float32), param)


def _finite(vectors: Array, param: str) -> Array:
    """Raises Invalid naming the first row with a number that is not finite, maybe because 32 bits cannot hold it."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise Invalid("every number must be finite and fit a 32-bit float", param=f"{param}[{int(finite.argmin())}]")
    return vectors
