"""Bodies of the requests that bring examples or inputs, each in JSON, multipart or safetensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from kshot.contracts.api import (
    AdaptRequest,
    AdaptSettings,
    ExamplesRequest,
    ExamplesSettings,
    PredictRequest,
    PredictSettings,
)
from kshot.contracts.errors import Invalid, KshotError, UnsupportedMediaType
from kshot.contracts.flywheel_bodies import FeedbackRequest, FeedbackSettings
from kshot.contracts.wire import Array, split
from service.bodies.multipart import Part, parse_multipart
from service.bodies.raw_inputs import Files, RawInputs, RawSupport, Tensor, Values
from service.bodies.stream import JSON, MULTIPART, Raw
from service.bodies.strict_json import strict_object
from service.errors import InvalidFields, fault_items

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=AdaptRequest | ExamplesRequest | PredictRequest)
Settings_co = TypeVar("Settings_co", bound=BaseModel, covariant=True)
_ARCHIVES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY")
"""Zip (npz, .pt), pickles, npy: formats that can carry code or unfold to anything."""


@dataclass(frozen=True)
class Parsed(Generic[Settings_co]):
    """One request: its settings, its examples and the inputs to answer, not decoded yet."""

    settings: Settings_co
    support: RawSupport | None
    query: RawInputs | None


@dataclass(frozen=True)
class _Loose:
    """Parts of a body that is not JSON."""

    settings: dict[str, Any]
    support: RawSupport | None
    query: RawInputs | None


def validate(model: type[M], value: object) -> M:
    """The value as a model. InvalidFields names each fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidFields(fault_items(error, value, with_options="options" in model.model_fields)) from None


def parse_adapt(raw: Raw) -> Parsed[AdaptSettings]:
    """`POST /adapt`."""
    return _parse(raw, AdaptRequest, AdaptSettings)


def parse_examples(raw: Raw) -> Parsed[ExamplesSettings]:
    """`POST /adapted-models/{id}/examples`."""
    return _parse(raw, ExamplesRequest, ExamplesSettings)


def parse_predict(raw: Raw) -> Parsed[PredictSettings]:
    """`POST /predict`."""
    return _parse(raw, PredictRequest, PredictSettings)


def parse_feedback(raw: Raw) -> Parsed[FeedbackSettings]:
    """`POST /adapted-models/{id}/feedback`: the true labels, with or without their inputs, as the support."""
    if raw.media_type == JSON:
        whole = validate(FeedbackRequest, strict_object(raw.data, quick=raw.quick))
        return Parsed(whole, RawSupport(Values(whole.inputs or []), whole.labels), None)
    loose = _loose(raw)
    return Parsed(validate(FeedbackSettings, loose.settings), loose.support, loose.query)


def _parse(raw: Raw, request: type[R], settings: type[M]) -> Parsed[R] | Parsed[M]:
    """``request`` is what JSON brings: the ``settings`` of the other forms, with examples and inputs among them."""
    if raw.media_type == JSON:
        whole = validate(request, strict_object(raw.data, quick=raw.quick))
        return Parsed(whole, _support_of(whole), _query_of(whole))
    loose = _loose(raw)
    return Parsed(validate(settings, loose.settings), loose.support, loose.query)


def _loose(raw: Raw) -> _Loose:
    if raw.media_type == MULTIPART:
        return _from_parts(parse_multipart(raw.data, raw.boundary))
    return _from_tensors(*split(raw.data))


def _support_of(request: AdaptRequest | ExamplesRequest | PredictRequest) -> RawSupport | None:
    support = request.support
    return None if support is None else RawSupport(Values(support.inputs), support.labels)


def _query_of(request: AdaptRequest | ExamplesRequest | PredictRequest) -> RawInputs | None:
    if isinstance(request, PredictRequest):
        return Values(request.inputs)
    return None if request.query is None else Values(request.query.inputs)


def _from_parts(parts: Sequence[Part]) -> _Loose:
    """Parts: ``request`` (JSON), any number of ``support[label]`` and ``query``."""
    settings: list[dict[str, Any]] = []
    inputs: list[Part] = []
    labels: list[str] = []
    query: list[Part] = []
    for part in parts:
        if part.name == "request":
            settings.append(_settings(part.data, "request"))
        elif part.name == "query":
            query.append(part)
        elif part.name.startswith("support[") and part.name.endswith("]"):
            inputs.append(part)
            labels.append(part.name[len("support[") : -1])
        else:
            raise Invalid("parts are named request, query or support[label]", param=part.name[:100])
    if len(settings) > 1:
        raise Invalid("one part named request is enough", param="request")
    support = RawSupport(_files(inputs, "support"), labels, named=True) if inputs else None
    return _Loose(settings[0] if settings else {}, support, _files(query, "query") if query else None)


def _settings(data: bytes, param: str) -> dict[str, Any]:
    try:
        return strict_object(data, param)
    except KshotError as error:
        error.param = param
        raise


def _files(parts: Sequence[Part], param: str) -> Files:
    for i, part in enumerate(parts):
        if part.data.startswith(_ARCHIVES):
            raise UnsupportedMediaType("archives, pickles and numpy files are not read", param=f"{param}.inputs[{i}]")
    return Files([part.data for part in parts])


def _from_tensors(header: str, arrays: Mapping[str, Array]) -> _Loose:
    """Tensors ``support.inputs``, ``support.targets``, ``query.inputs``; texts and string labels lie in the header."""
    settings = _settings(header.encode("utf-8", "surrogatepass"), "header")
    unknown = set(arrays) - {"support.inputs", "support.targets", "query.inputs"}
    if unknown:
        raise Invalid("tensors are named support.inputs, support.targets and query.inputs")
    support_inputs = _tensor_or_values("support.inputs", arrays, settings)
    query = _tensor_or_values("query.inputs", arrays, settings)
    labels = _labels(arrays, settings)
    if support_inputs is None and labels is None:
        return _Loose(settings, None, query)
    if support_inputs is None or labels is None:
        missing = "support.inputs" if support_inputs is None else "support.targets"
        raise Invalid("examples need inputs and targets", param=missing)
    return _Loose(settings, RawSupport(support_inputs, labels), query)


def _tensor_or_values(name: str, arrays: Mapping[str, Array], settings: dict[str, Any]) -> RawInputs | None:
    values = settings.pop(name, None)
    if name in arrays:
        if arrays[name].ndim == 0:
            raise Invalid("a tensor of inputs needs one row per input", param=name)
        return Tensor(arrays[name])
    if values is None:
        return None
    if not isinstance(values, list):
        raise Invalid("expected a list of inputs", param=name)
    return Values(values)


def _labels(arrays: Mapping[str, Array], settings: dict[str, Any]) -> list[object] | None:
    labels = settings.pop("support.labels", None)
    if "support.targets" in arrays:
        targets = arrays["support.targets"]
        if targets.ndim not in (1, 2) or targets.dtype.kind not in "iuf":
            raise Invalid("expected integers (n,), or floats (n,) or (n, n_targets)", param="support.targets")
        listed: list[object] = targets.tolist()
        return listed
    if labels is not None and not isinstance(labels, list):
        raise Invalid("expected a list of labels", param="support.labels")
    return labels
