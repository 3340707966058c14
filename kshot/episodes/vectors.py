"""Labelled vectors: two arrays of an npz archive, or a CSV file of numbers with a label."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kshot.contracts.errors import Invalid, TooLarge
from kshot.contracts.wire import Array
from kshot.episodes.archives import read_npz
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.rows import check_label, fault, lacking, open_csv, quoted
from kshot.inputs.vectors import MAX_WIDTH

_MOST_NUMBERS = 512 * 2**20
"""Of one file: 2 GiB of float32."""
_REMEDY = "say which one in columns.label, or, where numbers are to be predicted, which ones in columns.targets"


class Numbers:
    """Rows of numbers gathered into one float32 array, four bytes a number, without a Python float for each.

    ``numbers``: of the rows in the file."""

    def __init__(self, width: int) -> None:
        if not 1 <= width <= MAX_WIDTH:
            raise Invalid(f"expected 1 to {MAX_WIDTH} columns of numbers", param="columns.inputs")
        self._width = width
        self._values = array("f")
        self.numbers: list[int] = []

    def add(self, number: int, values: Sequence[str]) -> None:
        """One row. Raises Invalid where a value is no number, TooLarge over half a billion."""
        try:
            self._values.extend([float(value) for value in values])
        except ValueError:
            raise fault(number, "has a value that is no number") from None
        if len(self._values) > _MOST_NUMBERS:
            raise TooLarge(f"the file has more than {_MOST_NUMBERS} numbers", param="file")
        self.numbers.append(number)

    def array(self) -> Array:
        """float32 (n, width). Raises Invalid where there is no row, or one that is not finite in 32 bits."""
        if not self.numbers:
            raise Invalid("the file has no rows", param="file")
        rows = np.frombuffer(self._values, np.float32).reshape(-1, self._width)
        strange = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(strange):
            raise fault(self.numbers[strange[0]], "holds NaN, infinity or a number beyond 32 bits")
        return rows


def read_vector_npz(source: bytes | Path, inputs: str = "inputs", labels: str = "labels") -> Pool:
    """A pool from two arrays of an archive: numbers (n, width), and n labels (integers or strings).

    Raises Invalid where an array is missing, of the wrong shape or not finite.
    """
    arrays = read_npz(source)
    for name, param in ((inputs, "columns.inputs"), (labels, "columns.label")):
        if name not in arrays:
            raise lacking(f"the archive has no array {quoted(name)}", param)
    vectors, names = arrays[inputs], arrays[labels]
    if vectors.ndim != 2 or vectors.dtype.kind not in "biuf" or names.shape != (len(vectors),) or not vectors.size:
        raise Invalid("expected numbers of shape (n, width) and n labels", param="file")
    if vectors.size > _MOST_NUMBERS:
        raise TooLarge(f"the archive has more than {_MOST_NUMBERS} numbers", param="file")
    if names.dtype.kind not in "biuU":
        raise Invalid("class labels must be integers or strings", param="file")
    with np.errstate(over="ignore"):
        canonical = vectors.astype(np.float32)
    strange = np.flatnonzero(~np.isfinite(canonical).all(axis=1))
    if len(strange):
        raise fault(int(strange[0]) + 1, "of the vectors holds NaN, infinity or a number beyond 32 bits")
    return pool_from_labels(canonical, [check_label(str(name), i) for i, name in enumerate(names.tolist(), 1)])


def read_vector_csv(source: bytes | Path, label: str = "label") -> Pool:
    """A pool from UTF-8 CSV: one column is the label, all others are numbers. Raises Invalid, TooLarge."""
    with open_csv(source) as table:
        at = table.place(label, "columns.label", _REMEDY)
        vectors, labels = Numbers(len(table.header) - 1), []
        for number, row in table.rows:
            labels.append(check_label(row.pop(at), number))
            vectors.add(number, row)
    return pool_from_labels(vectors.array(), labels)
