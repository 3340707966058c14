"""What is for meta-training and what is held out: classes, groups of rows, recorded tasks."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from kshot.contracts.datasets import Part
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array

Splits = Mapping[str, tuple[str, ...]]
"""Split name -> class names."""

Shares = tuple[float, float, float]
"""Of train, valid and test; they sum to 1."""

PARTS: tuple[Part, ...] = get_args(Part)


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


def split_classes(classes: Sequence[str], shares: Shares, seed: int) -> dict[Part, tuple[str, ...]]:
    """A random split by class. A held-out part has two classes or more, or none where training would keep less than
    two: an episode of one class asks nothing. ``train`` takes what rounding leaves."""
    order = np.random.default_rng(seed).permutation(len(classes))
    return {part: tuple(classes[index] for index in chosen) for part, chosen in _parts_of(order, shares, 2).items()}


def split_groups(groups: Array, shares: Shares, seed: int) -> dict[Part, Array]:
    """Numbers of the rows of each part, ascending; rows of one group (int64 (n,)) stay together."""
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    return {part: np.flatnonzero(np.isin(groups, chosen)) for part, chosen in _parts_of(order, shares, 1).items()}


def split_tasks(ids: Sequence[str], shares: Shares, seed: int) -> dict[Part, tuple[str, ...]]:
    """A split of tasks by their ids that holds while tasks are added: one that is held out today is held out tomorrow.

    Where that leaves a part with a share empty, the task nearest to it changes sides.
    """
    place = {task: _place(task, seed) for task in ids}
    ordered = sorted(ids, key=place.__getitem__)
    ends = np.searchsorted([place[task] for task in ordered], np.cumsum(shares)[:2]).tolist()
    held_out = sum(share > 0 for share in shares[1:])
    if held_out and len(ordered) > held_out:
        ends[1] = min(ends[1], len(ordered) - (shares[2] > 0))
        ends[0] = max(1, min(ends[0], ends[1] - (shares[1] > 0)))
    return {part: tuple(chosen) for part, chosen in zip(PARTS, _cut(ordered, ends), strict=True)}


def check_splits(found: Mapping[str, Any], classes: Collection[str]) -> dict[Part, tuple[str, ...]]:
    """A caller's own split of these classes; classes in no part are left out. Raises Invalid where it is none."""
    known, taken = set(classes), set[str]()
    if set(found) - set(PARTS) or not all(isinstance(names, list) for names in found.values()):
        raise Invalid('expected {"train": [...], "valid": [...], "test": [...]}: lists of classes', param="splits")
    for part, names in found.items():
        if not all(isinstance(name, str) and name in known for name in names):
            raise Invalid(f"{part} names a class that is not in the data", param=f"splits.{part}")
        if taken & set(names) or len(set(names)) != len(names):
            raise Invalid(f"{part} names a class that is in another part, or twice", param=f"splits.{part}")
        taken |= set(names)
    if len(found.get("train", [])) < 2:
        raise Invalid("training needs at least 2 classes", param="splits.train")
    return {part: tuple(found.get(part, ())) for part in PARTS}


def _parts_of(order: Array, shares: Shares, least: int) -> dict[Part, Array]:
    test = _held_out(len(order), shares[2], least, len(order) - least)
    valid = _held_out(len(order), shares[1], least, len(order) - least - test)
    train = len(order) - valid - test
    return dict(zip(PARTS, _cut(order, [train, train + valid]), strict=True))


def _place(task: str, seed: int) -> float:
    """Where a task stands between 0 and 1, whatever others there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{task}".encode()).digest()[:8], "big") / 2**64


def _held_out(n: int, share: float, least: int, spare: int) -> int:
    """How many of n are of a part: its share, at least ``least`` where so many are to spare, at most ``spare``."""
    if share == 0 or spare < least:
        return 0
    return min(max(least, round(n * share)), spare)


def _cut(ordered: Any, ends: Sequence[int]) -> tuple[Any, Any, Any]:
    return ordered[: ends[0]], ordered[ends[0] : ends[1]], ordered[ends[1] :]
