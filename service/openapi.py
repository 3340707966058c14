"""The OpenAPI document: bodies are parsed by our own strict reader, so their schemas are put in here."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from kshot.contracts import api, flywheel_bodies
from kshot.contracts.access_bodies import NewKeyRequest, QuotasRequest, RotateKeyRequest
from kshot.contracts.dataset_bodies import NewBuiltInRequest, NewDatasetRequest
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.registry_bodies import MoveAliasRequest, RollbackRequest
from service.bodies.stream import JSON, MULTIPART, SAFETENSORS
from service.errors import MEDIA_TYPE
from service.prefer import PREFER

_REF = "#/components/schemas/{model}"
_REQUESTS: list[type[BaseModel]] = [
    api.AdaptRequest, api.ExamplesRequest, api.PredictRequest, api.ChangeRequest, NewKeyRequest, api.Problem,
    flywheel_bodies.FeedbackRequest, flywheel_bodies.RecordingRequest,
    NewDatasetRequest, NewBuiltInRequest, NewJobRequest, MoveAliasRequest, RollbackRequest, RotateKeyRequest,
    QuotasRequest,
]  # fmt: skip
_PARTS = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
_MULTIPART = {
    "type": "object",
    "properties": {
        "request": {
            "type": "string",
            "contentMediaType": JSON,
            "description": "JSON: everything but examples and inputs",
        },
        "query": {**_PARTS, "description": "One part per input to answer: images as files, texts as UTF-8"},
    },
    "patternProperties": {
        r"^support\[.+\]$": {**_PARTS, "description": "One part per example; its label stands in the brackets"}
    },
    "additionalProperties": False,
}
_SAFETENSORS = {
    "type": "string",
    "format": "binary",
    "description": "Metadata entry `header`: JSON of everything but examples and inputs (texts as lists under "
    "`support.inputs`, `support.labels`, `query.inputs`). Tensors: `support.inputs`, `support.targets`, "
    "`query.inputs`.",
}

_SUPPORT = {
    "inputs": ["my card was stolen", "I lost my card", "what is my balance?", "how much money do I have?"],
    "labels": ["card", "card", "balance", "balance"],
}
_EXAMPLES = {
    "AdaptRequest": {
        "checkpoint": "intents@production",
        "support": _SUPPORT,
        "query": {"inputs": ["someone took my card"]},
    },
    "PredictRequest": {
        "checkpoint": "intents@production",
        "support": _SUPPORT,
        "inputs": ["someone took my card"],
    },
}

Responses = dict[int | str, dict[str, Any]]
CALLER_AND_PREFERENCE: dict[str, Any] = {
    "security": [{"HTTPBearer": []}],
    "parameters": [
        {
            "name": "prefer",
            "in": "header",
            "required": False,
            "schema": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Prefer"},
            "description": PREFER,
        }
    ],
}
"""``openapi_extra`` of a route that reads these headers itself, because FastAPI takes longer than the answer."""


def problems(*statuses: int) -> Responses:
    """Documentation of the problems a route may answer with, besides those of every route that needs a key."""
    every = {401, 403, 422, 429, 500, 503, *statuses}
    return {status: _problem(status) for status in sorted(every)}


def body_of(model: type[BaseModel], *, json_only: bool = False, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` for a route whose body we read ourselves."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    if model.__name__ in _EXAMPLES:
        content[JSON]["example"] = _EXAMPLES[model.__name__]
    if not json_only:
        content[MULTIPART] = {"schema": _MULTIPART}
        content[SAFETENSORS] = {"schema": _SAFETENSORS}
    return {"requestBody": {"required": required, "content": content}}


def dataset_body() -> dict[str, Any]:
    """``openapi_extra`` of the route that takes a data set's file, or the name of a built-in one."""
    described = {"type": "string", "contentMediaType": JSON, "contentSchema": _ref(NewDatasetRequest)}
    form = {
        "type": "object",
        "properties": {
            "request": described,
            "splits": {"type": "string", "contentMediaType": JSON, "description": "Classes of each part, if not drawn"},
            "file": {"type": "string", "format": "binary"},
        },
        "required": ["request", "file"],
        "additionalProperties": False,
    }
    content = {MULTIPART: {"schema": form}, JSON: {"schema": _ref(NewBuiltInRequest)}}
    return {"requestBody": {"required": True, "content": content}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def install_document(app: FastAPI) -> None:
    """Serve a document that holds the request schemas too."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, definitions = models_json_schema(
        [(model, "validation") for model in _REQUESTS], by_alias=True, ref_template=_REF
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    return document


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
