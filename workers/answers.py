"""A learner's output as JSON-ready predictions, in the caller's own labels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import AnswerOptions, Label, TargetSpec
from kshot.learners.base import Output

Prediction = dict[str, Any]


def write_answers(
    output: Output,
    classes: Sequence[Label],
    answer: AnswerOptions,
    param: str = "inputs",
    columns: Sequence[TargetSpec] = (),
) -> list[Prediction]:
    """One prediction per query.

    Classification: ``label`` (None where the best probability is under ``reject_below``), ``probabilities`` and
    ``logits`` by label, most probable first, the ``top_k`` first alone where that is set. Regression: ``value`` and,
    where the learner knows it, ``std``; lists where a label is a list. With ``columns``: ``targets``, which holds one
    of these by name for each target of which anything is wanted.
    Raises Invalid, naming ``param``, where a number is not finite.
    """
    if columns:
        return _joint(output, columns, answer, param)
    if output.logits is not None:
        _check_finite(output.logits, param)
        return _classified(output.logits.double().cpu(), classes, answer)
    assert output.values is not None
    _check_finite(output.values, param)
    return _measured(output.values.cpu(), None if output.std is None else output.std.cpu())


def _joint(output: Output, columns: Sequence[TargetSpec], answer: AnswerOptions, param: str) -> list[Prediction]:
    wanted = {
        spec.name: write_answers(own, spec.classes, answer, param)
        for spec, own in zip(columns, output.columns, strict=True)
        if spec.kind == "classification" or "values" in answer.wanted
    }
    n_query = len(next(iter(wanted.values())))
    return [{"targets": {name: answers[i] for name, answers in wanted.items() if answers[i]}} for i in range(n_query)]


def _classified(logits: Tensor, classes: Sequence[Label], answer: AnswerOptions) -> list[Prediction]:
    probabilities = logits.softmax(1)
    kept = min(answer.top_k or len(classes), len(classes))
    order = probabilities.argsort(stable=True, dim=1, descending=True)[:, :kept]
    rows = zip(
        order.tolist(), probabilities.gather(1, order).tolist(), logits.gather(1, order).tolist(), strict=True
    )  # fmt: skip
    return [_one_class(*row, classes, answer) for row in rows]


def _one_class(
    order: list[int], p: list[float], logits: list[float], classes: Sequence[Label], answer: AnswerOptions
) -> Prediction:
    prediction: Prediction = {}
    names = [str(classes[k]) for k in order]
    if "labels" in answer.wanted:
        rejected = answer.reject_below is not None and p[0] < answer.reject_below
        prediction["label"] = None if rejected else classes[order[0]]
    if "probabilities" in answer.wanted:
        prediction["probabilities"] = dict(zip(names, map(_short, p), strict=True))
    if "logits" in answer.wanted:
        prediction["logits"] = dict(zip(names, map(_short, logits), strict=True))
    return prediction


def _measured(values: Tensor, std: Tensor | None) -> list[Prediction]:
    predictions = [{"value": _one_or_many(row)} for row in values.tolist()]
    if std is not None and bool(torch.isfinite(std).all()):
        for prediction, row in zip(predictions, std.tolist(), strict=True):
            prediction["std"] = _one_or_many(row)
    return predictions


def _one_or_many(row: list[float]) -> float | list[float]:
    numbers = [_short(number) for number in row]
    return numbers[0] if len(numbers) == 1 else numbers


def _short(number: float) -> float:
    """Seven significant digits: what a float32 holds, and no more bytes than that."""
    return float(f"{number:.7g}")


def _check_finite(numbers: Tensor, param: str) -> None:
    if not bool(torch.isfinite(numbers).all()):
        raise Invalid("an input leads to numbers that are not finite; check the inputs' scale", param=param)
