"""How many of the answers were right: figures beside known labels, with their 95% interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kshot.cli.sources.examples import Truth, task_of
from kshot.metrics import mean_interval, value_scores, wilson_interval

Answer = Mapping[str, Any]
"""A prediction as the service writes it: ``{label, probabilities}`` or ``{value, std}``."""


def score(answers: Sequence[Answer], truths: Sequence[Truth | None]) -> dict[str, Any] | None:
    """Figures over the rows whose truth is known; None where none is, or labels and answers are of different kinds.

    Classes: ``{accuracy, interval: [low, high], n}``, the interval by Wilson. Values: ``{mse, interval, r2, n}``, no
    interval from one row.
    """
    known = [(answer, truth) for answer, truth in zip(answers, truths, strict=True) if truth is not None]
    if not known:
        return None
    labels = [truth for _, truth in known]
    if "label" in known[0][0]:
        return _classes([str(answer["label"]) for answer, _ in known], [str(label) for label in labels])
    if "value" in known[0][0] and task_of(labels) == "regression":
        return _values([answer["value"] for answer, _ in known], labels)
    return None


def in_words(figures: Mapping[str, Any]) -> str:
    """The figures as a line."""
    interval = figures["interval"]
    if "accuracy" in figures:
        low, high = interval
        return f"{figures['accuracy']:.1%} right of {figures['n']} (95% interval {low:.1%} to {high:.1%})"
    around = "" if interval is None else f" (95% interval {interval[0]:.4g} to {interval[1]:.4g})"
    explained = "" if figures["r2"] is None else f", {figures['r2']:.1%} of the variance explained (R²)"
    return f"mean squared error {figures['mse']:.4g} over {figures['n']}{around}{explained}"


def _classes(answers: list[str], truths: list[str]) -> dict[str, Any]:
    right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
    low, high = wilson_interval(right, len(truths))
    return {"accuracy": right / len(truths), "interval": [max(low, 0.0), min(high, 1.0)], "n": len(truths)}


def _values(answers: list[Any], truths: list[Truth]) -> dict[str, Any]:
    given, true = (np.array(values, float).reshape(len(truths), -1) for values in (answers, truths))
    scores, squares = value_scores(given, true), np.square(given - true).mean(1)
    half = mean_interval(squares).interval if len(squares) > 1 else None
    interval = None if half is None else [max(scores.mse - half, 0.0), scores.mse + half]
    return {"mse": scores.mse, "interval": interval, "r2": scores.r2, "n": len(truths)}
