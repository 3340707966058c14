"""The OpenAPI document: complete, resolvable, and honest about keys."""

import json
import re
from typing import Any

import pytest

from kshot.contracts import api
from kshot.contracts.model import Model
from service.app import create_app
from service.settings import Settings

PUBLIC = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(database_url="postgresql://x", redis_url="redis://x")).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, verb, op) for path, item in document["paths"].items() for verb, op in item.items()]


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for name in set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document))):
        assert name in document["components"]["schemas"], name
    assert '"$ref": "#/$defs' not in json.dumps(document)


def test_bodies_have_schemas_though_we_parse_them_ourselves(document: dict[str, Any]) -> None:
    for path in ("/adapt", "/predict", "/v1/adapt", "/v1/predict", "/v1/adapted-models/{id}/examples"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data", "application/vnd.safetensors"}
    adapt = document["components"]["schemas"]["AdaptRequest"]
    assert adapt["additionalProperties"] is False and {"checkpoint", "support"} <= set(adapt["required"])
    assert "return" in document["components"]["schemas"]["PredictRequest"]["properties"]


@pytest.mark.parametrize(("path", "model"), [("/adapt", api.AdaptRequest), ("/predict", api.PredictRequest)])
def test_the_main_calls_have_an_example_that_is_one(document: dict[str, Any], path: str, model: type[Model]) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    assert model.model_validate(content["application/json"]["example"])


def test_every_route_but_health_needs_a_key_and_documents_its_problems(document: dict[str, Any]) -> None:
    for path, verb, operation in operations(document):
        if path in PUBLIC:
            assert "security" not in operation
            continue
        assert operation["security"] == [{"HTTPBearer": []}], (path, verb)
        assert {"401", "429", "500", "503"} <= set(operation["responses"]), (path, verb)
        for status, answer in operation["responses"].items():
            if status == "204":
                assert "content" not in answer
                continue
            sound = "text/plain" if path == "/metrics" else "application/json"
            kind = "application/problem+json" if int(status) >= 400 else sound
            streamed = ["text/event-stream"] if path.endswith("/events") and status == "200" else []
            assert list(answer["content"]) == [kind, *streamed], (path, verb, status)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
