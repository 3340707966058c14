"""A pool: labelled inputs by class, from which episodes are drawn."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """``inputs``: canonical inputs of all classes; ``rows[i]``: which of them belong to class ``classes[i]``.

    ``groups``: numbers of classes that only make sense together (those of one recorded task), so that an episode takes
    its classes from one group; None where any classes may meet.
    """

    inputs: Inputs
    classes: tuple[str, ...]
    rows: tuple[Rows, ...]
    groups: tuple[tuple[int, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def take(inputs: Inputs, rows: Rows) -> Inputs:
    """The inputs at ``rows``, in that order."""
    return [inputs[row] for row in rows] if isinstance(inputs, list) else inputs[rows]


def pool_from_labels(inputs: Inputs, labels: Sequence[str]) -> Pool:
    """A pool of ``inputs`` with one label each; classes are sorted by name."""
    if len(inputs) != len(labels):
        raise Invalid(f"{len(inputs)} inputs but {len(labels)} labels")
    classes = sorted(set(labels))
    index = {name: position for position, name in enumerate(classes)}
    indices = np.fromiter((index[label] for label in labels), np.int64, len(labels))
    ends = np.cumsum(np.bincount(indices, minlength=len(classes)))
    rows = tuple(np.split(np.argsort(indices, kind="stable"), ends[:-1])) if classes else ()
    return Pool(inputs, tuple(classes), rows)


def select_classes(pool: Pool, wanted: Iterable[str]) -> Pool:
    """The pool of the ``wanted`` classes alone, with only their inputs: a split cannot leak what it does not hold."""
    index = {name: position for position, name in enumerate(pool.classes)}
    names = tuple(wanted)
    missing = [name for name in names if name not in index]
    if missing:
        raise Invalid(f"{len(missing)} classes of the split are not in the data")
    chosen = [pool.rows[index[name]] for name in names]
    ends = np.cumsum([0, *map(len, chosen)])
    rows = tuple(np.arange(start, end) for start, end in itertools.pairwise(ends))
    kept = {index[name]: position for position, name in enumerate(names)}
    groups = None if pool.groups is None else _regrouped(pool.groups, kept)
    return Pool(take(pool.inputs, np.concatenate(chosen)), names, rows, groups)


def _regrouped(groups: Iterable[tuple[int, ...]], kept: Mapping[int, int]) -> tuple[tuple[int, ...], ...]:
    """The groups in new numbers, without the classes that are gone."""
    renamed = (tuple(kept[old] for old in group if old in kept) for group in groups)
    return tuple(group for group in renamed if group)


def with_rotations(pool: Pool) -> Pool:
    """The same pictures turned by 0, 90, 180 and 270 degrees, each turn of a class a class of its own.

    The Omniglot protocol of Santoro et al. (2016) and Vinyals et al. (2016). Call it after splitting by class, so that
    all four turns of a character stay on one side of the split.
    """
    pictures = pool.inputs
    if isinstance(pictures, list) or pictures.ndim != 4:
        raise Invalid("only pictures can be turned")
    turned = np.concatenate([np.rot90(pictures, turn, axes=(1, 2)) for turn in range(4)])
    classes = tuple(f"{name}/rot{90 * turn:03}" for turn in range(4) for name in pool.classes)
    rows = tuple(own + turn * len(pictures) for turn in range(4) for own in pool.rows)
    n = len(pool.classes)
    groups = None
    if pool.groups is not None:
        groups = tuple(tuple(i + turn * n for i in group) for turn in range(4) for group in pool.groups)
    return Pool(turned, classes, rows, groups)
