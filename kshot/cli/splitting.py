"""Examples kept back from learning, so that the model can be measured on what it has not seen."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kshot.cli.sources.examples import Examples, Truth, WrongUse, task_of

Rows = NDArray[np.int64]


def split(examples: Examples, holdout: float | None, shots: int | None, seed: int) -> tuple[Examples, Examples | None]:
    """Examples to learn from, and those kept back; None where nothing was asked to be.

    ``holdout``: this share of each class is kept back. ``shots``: so many of each class are learned from, and without
    ``holdout`` all others are kept back. Values (regression) count as one class. The same seed, the same split.
    Raises WrongUse where nothing would be kept back.
    """
    if holdout is None and shots is None:
        return examples, None
    rng = np.random.default_rng(seed)
    learned, kept = [], []
    for rows in _groups(examples.known_labels()):
        drawn = rng.permutation(rows)
        back = 0 if holdout is None else min(round(holdout * len(drawn)), len(drawn) - 1)
        rest = drawn[back:]
        learned.append(rest[:shots])
        kept.append(drawn[:back] if holdout is not None else rest[shots:])
    support, queries = np.sort(np.concatenate(learned)), np.sort(np.concatenate(kept))
    if not len(queries):
        raise WrongUse(
            "no example would be kept back, there are too few of each class: lower --shots or raise --holdout"
        )
    return examples.take(support), examples.take(queries)


def _groups(labels: list[Truth]) -> Iterable[Rows]:
    """Rows of each class, by its first appearance; of values all rows."""
    if task_of(labels) == "regression":
        return [np.arange(len(labels))]
    rows: dict[Truth, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [np.array(own) for own in rows.values()]
