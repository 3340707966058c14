"""What an answer is like: the examples of the support nearest to a query, in the caller's own labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import SupportSet, TargetSpec
from kshot.contracts.wire import Array, Inputs
from kshot.learners.nearest import Near, nearest
from workers.answers import one_or_many, short
from workers.work import Work

Explanation = list[dict[str, Any]]
"""The nearest examples of one query, nearest first: ``index`` in the support, ``label``, ``similarity``."""


def explain(checkpoint: Checkpoint, batch: Sequence[Work]) -> list[list[Explanation] | None]:
    """Of each item one explanation per query; None where none is wanted. One pass of the encoder serves them all."""
    explained: list[list[Explanation] | None] = [None] * len(batch)
    asked = [(i, *sides) for i, work in enumerate(batch) if (sides := _sides(work)) is not None]
    if asked:
        _, supports, queries = zip(*asked, strict=True)
        found = nearest(checkpoint, [support.inputs for support in supports], queries)
        for (i, support, _), near in zip(asked, found, strict=True):
            explained[i] = _in_words(near, support)
    return explained


def _sides(work: Work) -> tuple[SupportSet, Inputs] | None:
    support, query = work.payload.support, work.payload.query
    if support is None or query is None or not work.payload.wants_nearest:
        return None
    return support, query


def _in_words(near: Near, support: SupportSet) -> list[Explanation]:
    similarities = short(near.similarities.numpy())
    return [
        [
            {"index": index, "label": _label(support, index), "similarity": similarity}
            for index, similarity in zip(rows, values, strict=True)
        ]
        for rows, values in zip(near.rows.tolist(), similarities, strict=True)
    ]


def _label(support: SupportSet, index: int) -> Any:
    target = support.targets[index]
    if support.task == "classification":
        return support.classes[int(target)]
    if support.task == "regression":
        return one_or_many(_numbers(target))
    return {column.name: _of_column(column, number) for column, number in zip(support.columns, target, strict=True)}


def _of_column(column: TargetSpec, number: float) -> Any:
    if math.isnan(number):
        return None
    return column.classes[int(number)] if column.kind == "classification" else _numbers(np.array([number]))[0]


def _numbers(row: Array) -> list[float]:
    return short(row[None].astype(np.float64))[0]
