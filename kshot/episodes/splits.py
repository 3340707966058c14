"""Which classes are for meta-training and which are held out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kshot.contracts.errors import Invalid

Splits = Mapping[str, tuple[str, ...]]
"""Split name -> class names."""


def read_splits(file: Path, key: str | None = None) -> Splits:
    """Splits from JSON: ``{"train": [...], "valid": [...], "test": [...]}``, one level deeper below ``key``.

    Raises Invalid where the file holds something else, or where a class is in two splits.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = content if key is None else content[key]
        splits = {str(name): tuple(map(str, classes)) for name, classes in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid("the class splits cannot be read") from error
    everything = [name for classes in splits.values() for name in classes]
    if len(set(everything)) != len(everything):
        raise Invalid("a class is in two splits")
    return splits


def split_classes(classes: Sequence[str], shares: Mapping[str, float], seed: int) -> Splits:
    """A random split by class. ``shares`` sum to 1; the last split takes what rounding leaves."""
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise Invalid("the shares of a split must sum to 1")
    order = np.random.default_rng(seed).permutation(len(classes))
    ends = np.round(np.cumsum(list(shares.values())) * len(classes)).astype(int)
    starts = [0, *ends[:-1]]
    return {
        name: tuple(classes[index] for index in order[start:end])
        for name, start, end in zip(shares, starts, ends, strict=True)
    }
