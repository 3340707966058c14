"""A learner's output as JSON-ready predictions, in the caller's own labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import AnswerOptions, Label, TargetSpec
from kshot.learners.base import Output

Prediction = dict[str, Any]
Numbers = NDArray[np.float64]

_DIGITS = 7
_TINY = 1e-300
_EXACT = 1e22
"""The largest power of ten that a float64 holds."""


@dataclass(frozen=True)
class Asked:
    """A learner's output for one item, and how its caller wants it written."""

    output: Output
    classes: Sequence[Label]
    answer: AnswerOptions
    columns: Sequence[TargetSpec] = ()


def write_answers(asked: Sequence[Asked], param: str = "inputs") -> list[list[Prediction]]:
    """Of each item, one prediction per query.

    Classification: ``label`` (None where the best probability is under ``reject_below``), ``probabilities`` and
    ``logits`` by label, most probable first, the ``top_k`` first alone where that is set. Regression: ``value`` and,
    where the learner knows it, ``std``; lists where a label is a list. With ``columns``: ``targets``, which holds one
    of these by name for each target of which anything is wanted.
    Raises Invalid, naming ``param``, where a number is not finite.
    """
    written: list[list[Prediction]] = [[]] * len(asked)
    by_width: dict[int, list[int]] = {}
    for i, one in enumerate(asked):
        if one.columns:
            written[i] = _joint(one, param)
        elif one.output.logits is not None:
            by_width.setdefault(one.output.logits.shape[1], []).append(i)
        else:
            written[i] = _measured(one, param)
    for members in by_width.values():
        for i, predictions in zip(members, _classified([asked[i] for i in members], param), strict=True):
            written[i] = predictions
    return written


def _joint(asked: Asked, param: str) -> list[Prediction]:
    parts = {
        spec.name: Asked(own, spec.classes, asked.answer)
        for spec, own in zip(asked.columns, asked.output.columns, strict=True)
        if spec.kind == "classification" or "values" in asked.answer.wanted
    }
    wanted = dict(zip(parts, write_answers(list(parts.values()), param), strict=True))
    return [
        {"targets": {name: answers[i] for name, answers in wanted.items() if answers[i]}}
        for i in range(_n_query(asked.output.columns[0]))
    ]


def _n_query(output: Output) -> int:
    numbers = output.values if output.logits is None else output.logits
    assert numbers is not None
    return len(numbers)


def _classified(asked: Sequence[Asked], param: str) -> list[list[Prediction]]:
    """Of items with equally many classes: the numbers of all are worked out together."""
    logits = _finite(torch.cat([one.output.logits for one in asked if one.output.logits is not None]), param)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = weights / weights.sum(1, keepdims=True)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    best = np.take_along_axis(probabilities, order, 1)
    numbers = {"probabilities": short(best)}
    if any("logits" in one.answer.wanted for one in asked):
        numbers["logits"] = short(np.take_along_axis(logits, order, 1))
    rows = zip(order.tolist(), best[:, 0].tolist(), *numbers.values(), strict=True)
    written = []
    for one in asked:
        assert one.output.logits is not None
        own = islice(rows, len(one.output.logits))
        written.append([_one_class(one, k, p, dict(zip(numbers, row, strict=True))) for k, p, *row in own])
    return written


def _one_class(asked: Asked, order: list[int], best: float, numbers: Mapping[str, list[float]]) -> Prediction:
    classes, answer = asked.classes, asked.answer
    prediction: Prediction = {}
    if "labels" in answer.wanted:
        rejected = answer.reject_below is not None and best < answer.reject_below
        prediction["label"] = None if rejected else classes[order[0]]
    names = [str(classes[k]) for k in order[: answer.top_k]]
    for kind, row in numbers.items():
        if kind in answer.wanted:
            prediction[kind] = dict(zip(names, row, strict=False))  # no more than the best of them
    return prediction


def _measured(asked: Asked, param: str) -> list[Prediction]:
    output = asked.output
    assert output.values is not None
    predictions: list[Prediction] = [{"value": one_or_many(row)} for row in short(_finite(output.values, param))]
    if "values" not in asked.answer.wanted:
        return [{} for _ in predictions]
    std = None if output.std is None else _numbers(output.std)
    if std is not None and np.isfinite(std).all():
        for prediction, row in zip(predictions, short(std), strict=True):
            prediction["std"] = one_or_many(row)
    return predictions


def one_or_many(row: list[float]) -> float | list[float]:
    """A number for a label that is one, a list for one that is a list."""
    return row[0] if len(row) == 1 else row


def short(numbers: Numbers) -> list[list[float]]:
    """Seven significant digits: what a float32 holds, and no more bytes than that."""
    exponents = np.floor(np.log10(np.maximum(np.abs(numbers), _TINY)))
    units = 10.0 ** np.abs(_DIGITS - 1 - exponents)  # of the last digit, or how many of them make one
    rounded = np.where(exponents < _DIGITS, np.rint(numbers * units) / units, np.rint(numbers / units) * units)
    # beyond, the power of ten itself is not exact
    short: list[list[float]] = np.where(units <= _EXACT, rounded, numbers).tolist()
    return short


def _finite(numbers: Tensor, param: str) -> Numbers:
    found = _numbers(numbers)
    if not np.isfinite(found).all():
        raise Invalid("an input leads to numbers that are not finite; check the inputs' scale", param=param)
    return found


def _numbers(tensor: Tensor) -> Numbers:
    found: Numbers = tensor.detach().to("cpu", torch.float64).numpy()
    return found
