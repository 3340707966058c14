"""Lists of numbers -> canonical float32 vectors."""

from collections.abc import Sequence

import numpy as np

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array

MAX_WIDTH = 65_536


def read_vectors(values: Sequence[object], spec: VectorInput, param: str) -> Array:
    """JSON lists of numbers -> float32 (n, width). All equally wide, finite; true is no number and "1" neither."""
    width = spec.width
    for i, row in enumerate(values):
        if not isinstance(row, list) or not row:
            raise Invalid(f"expected {_expected(width)}", param=f"{param}[{i}]")
        width = _check_width(len(row), width, f"{param}[{i}]")
        if not set(map(type, row)) <= {int, float}:
            position = next(j for j, value in enumerate(row) if type(value) not in (int, float))
            raise Invalid(f"not a number; expected {_expected(width)}", param=f"{param}[{i}][{position}]")
    try:
        array = np.array(values, dtype=np.float64).reshape(len(values), -1)
    except OverflowError:
        raise Invalid("a number is too large for a 32-bit float", param=param) from None
    return _float32(array, param)


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
        vectors = array.astype(np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise Invalid("every number must be finite and fit a 32-bit float", param=f"{param}[{int(finite.argmin())}]")
    return vectors
