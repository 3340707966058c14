"""Labelled vectors in an npz archive."""

from pathlib import Path

import numpy as np

from kshot.contracts.errors import Invalid
from kshot.episodes.archives import read_npz
from kshot.episodes.pool import Pool, pool_from_labels


def read_vector_npz(source: bytes | Path, inputs: str = "inputs", labels: str = "labels") -> Pool:
    """A pool from two arrays of an archive: numbers (n, width), and n labels (integers or strings).

    Raises Invalid where an array is missing, of the wrong shape or not finite.
    """
    arrays = read_npz(source)
    if inputs not in arrays or labels not in arrays:
        raise Invalid(f"the archive must hold the arrays {inputs} and {labels}")
    vectors, names = arrays[inputs], arrays[labels]
    if vectors.ndim != 2 or vectors.dtype.kind not in "biuf" or names.shape != (len(vectors),):
        raise Invalid("expected numbers of shape (n, width) and n labels")
    if names.dtype.kind == "f":
        raise Invalid("class labels must be integers or strings")
    canonical = vectors.astype(np.float32)
    if not np.isfinite(canonical).all():
        raise Invalid("the vectors hold NaN or infinity")
    return pool_from_labels(canonical, [str(name) for name in names])
