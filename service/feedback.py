"""Feedback: true labels -> a support set of queries, and how many answers were right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kshot.contracts.checkpoints import Manifest, TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import Payload, SupportSet
from kshot.contracts.wire import Array, Inputs
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.feedback import RecordedPrediction
from service.bodies.raw_inputs import RawSupport
from service.labels import as_known, class_label, number_targets
from service.meaning import read_query
from service.settings import Settings

PARAM = "labels"
_KINDS: dict[str, TaskKind] = {"classification": "classification", "regression": "regression"}


@dataclass(frozen=True)
class Told:
    """Feedback, read and compared. ``payload``: queries and their labels, encoded; None where the queries are not
    known. ``n_correct`` and ``squared_error``, of the ``n_answered``: see kshot.storage.feedback."""

    n: int
    payload: bytes | None
    n_answered: int = 0
    n_correct: int | None = None
    squared_error: float | None = None


def read_feedback(
    raw: RawSupport,
    model: AdaptedModel,
    manifest: Manifest,
    n_targets: int | None,
    prediction: RecordedPrediction | None,
    limits: Settings,
) -> Told:
    """Read and check feedback; ``n_targets``: numbers in a label of regression. Raises Invalid naming the field."""
    _check_counts(raw, prediction, limits)
    inputs = _inputs(raw, model, manifest, prediction, limits)
    told = [i for i, label in enumerate(raw.labels) if label is not None]
    if not told:
        raise Invalid("no true label is known; send the feedback once one is", param=PARAM)
    labels = replace(raw, labels=[raw.labels[i] for i in told])
    targets = _classes(labels, told, model) if model.task == "classification" else _numbers(labels, told, n_targets)
    payload = None
    if inputs is not None:
        kept = [inputs[i] for i in told] if isinstance(inputs, list) else inputs[told]
        classes = model.classes if model.task == "classification" else ()
        payload = Payload(SupportSet(_KINDS[model.task], kept, targets, classes)).encode()
    counted = Told(len(told), payload)
    if prediction is None:
        return counted
    answers = [prediction.answers[i] for i in told]
    if model.task == "classification":
        return _count_right(counted, answers, [model.classes[k] for k in targets.tolist()])
    return _measure(counted, answers, targets)


def _check_counts(raw: RawSupport, prediction: RecordedPrediction | None, limits: Settings) -> None:
    n, n_inputs = len(raw.labels), len(raw.inputs)
    if n == 0:
        raise Invalid("no labels", param=PARAM)
    if n > limits.max_query:
        raise Invalid(f"{n} labels; at most {limits.max_query} are allowed", param=PARAM)
    if prediction is not None and n != prediction.n_query:
        message = f"{n} labels, but the prediction answered {prediction.n_query} queries; send null where none is known"
        raise Invalid(message, param=PARAM)
    if n_inputs and n_inputs != n:
        raise Invalid(f"{n_inputs} inputs but {n} labels; each input needs one", param=PARAM)


def _inputs(
    raw: RawSupport, model: AdaptedModel, manifest: Manifest, prediction: RecordedPrediction | None, limits: Settings
) -> Inputs | None:
    """The queries, from the record or from the body."""
    recorded = None if prediction is None or prediction.inputs is None else Payload.decode(prediction.inputs).query
    if recorded is not None and len(raw.inputs):
        raise Invalid("the inputs of this prediction are recorded; leave these out", param="inputs")
    if recorded is None and len(raw.inputs):
        return read_query(raw.inputs, manifest.input, model.input_shape, limits, "inputs")
    if recorded is None and prediction is None:
        raise Invalid("name the prediction these labels are for, or send the inputs", param="prediction")
    return recorded


def _classes(raw: RawSupport, places: Sequence[int], model: AdaptedModel) -> Array:
    """int64 (n,) indices into the model's classes."""
    names = as_known(raw.labels, model.classes) if raw.named else raw.labels
    known = {label: k for k, label in enumerate(model.classes)}
    targets = []
    for i, name in zip(places, names, strict=True):
        label = class_label(name, f"{PARAM}[{i}]")
        if label not in known:
            remedy = f"POST /v1/adapted-models/{model.id}/examples adds examples of new classes"
            raise Invalid(f"this model has no such class; {remedy}", param=f"{PARAM}[{i}]")
        targets.append(known[label])
    return np.array(targets, dtype=np.int64)


def _numbers(raw: RawSupport, places: Sequence[int], n_targets: int | None) -> Array:
    """float32 (n, n_targets)."""
    for i, label in zip(places, raw.labels, strict=True):
        try:
            number_targets([label], n_targets, named=raw.named)
        except Invalid as error:
            error.param = f"{PARAM}[{i}]"
            raise
    return number_targets(raw.labels, n_targets, named=raw.named)


def _count_right(told: Told, answers: Sequence[Mapping[str, Any]], truth: Sequence[str | int]) -> Told:
    """Rejected queries (``label: null``) were not answered."""
    given = [(_answered(answer), str(label)) for answer, label in zip(answers, truth, strict=True)]
    compared = [found == label for found, label in given if found is not None]
    return replace(told, n_answered=len(compared), n_correct=sum(compared))


def _answered(answer: Mapping[str, Any]) -> str | None:
    """The class an answer names, as a string; where the caller wanted no labels, the one it puts first."""
    if "label" in answer:
        return None if answer["label"] is None else str(answer["label"])
    scores: Mapping[str, float] = answer.get("probabilities") or answer.get("logits") or {}
    return max(scores, key=scores.__getitem__) if scores else None


def _measure(told: Told, answers: Sequence[Mapping[str, Any]], truth: Array) -> Told:
    values = np.array([np.atleast_1d(answer["value"]) for answer in answers], dtype=np.float64)
    squared = ((values - truth) ** 2).mean(axis=1)
    return replace(told, n_answered=len(answers), squared_error=float(squared.sum()))
