"""The API reference, from the OpenAPI document that the service itself serves."""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from made.tables import cell, table
from service.app import create_app
from service.settings import Settings

Schema = Mapping[str, Any]


def markdown() -> str:
    """Every call, then every object, each under a heading of its own."""
    document = create_app(Settings(database_url="postgresql://x", redis_url="redis://x")).openapi()  # type: ignore[arg-type]
    return "\n\n".join([*_calls(document), "## Objects", *_objects(document["components"]["schemas"])])


def _calls(document: Schema) -> Iterator[str]:
    paths = document["paths"]
    group = ""
    for path, verbs in sorted(paths.items(), key=lambda item: not item[0].startswith("/v1")):  # about itself: last
        if f"/v1{path}" in paths:
            continue  # the same call again: the page says so once
        if group != (group := _group(path)):
            yield f"## {group}"
        for verb, call in verbs.items():
            yield from _call(verb, path, call)


def _group(path: str) -> str:
    if not path.startswith("/v1"):
        return "The service itself"
    if path in ("/v1/adapt", "/v1/predict"):
        return "Adapt and predict"
    noun = path.split("/")[2].replace("-", " ").capitalize()
    return {"Api keys": "API keys", "Datasets": "Data sets"}.get(noun, noun)


def _call(verb: str, path: str, call: Schema) -> Iterator[str]:
    yield f"### {verb.upper()} {path.replace('{', '&#123;').replace('}', '&#125;')}"
    yield _text(call.get("description") or call["summary"])
    if parameters := call.get("parameters"):
        rows = [(f"`{p['name']}`", p["in"], _kind(p["schema"]), p.get("description", "")) for p in parameters]
        yield table(("parameter", "in", "type", "meaning"), rows)
    if body := call.get("requestBody"):
        kinds = [f"`{media}`: {_kind(content['schema'])}" for media, content in body["content"].items()]
        yield "Body, one of: " + "; ".join(kinds) + "." if len(kinds) > 1 else f"Body, {kinds[0]}."
    told = [(code, _answer(answer), answer["description"]) for code, answer in call["responses"].items()]
    usual = [code for code, _, when in told if when == HTTPStatus(int(code)).phrase and int(code) >= 400]
    rows = [(code, body, _when(when)) for code, body, when in told if code not in usual]
    yield table(("status", "body", "when"), rows)
    if usual:
        yield f"Otherwise a [Problem](#problem): {', '.join(usual)}."


def _when(said: str) -> str:
    return "done" if said == "Successful Response" else said


def _answer(answer: Schema) -> str:
    return "<br>".join(_kind(content.get("schema", {})) for content in answer.get("content", {}).values())


def _objects(schemas: Mapping[str, Schema]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"### {name}"
        if description := schema.get("description"):
            yield _text(description)
        if fields := schema.get("properties"):
            required = schema.get("required", ())
            rows = [
                (f"`{field}`", _kind(own), _default(field, own, required), _note(own)) for field, own in fields.items()
            ]
            yield table(("field", "type", "default", "meaning"), rows)
        else:
            yield _kind(schema)


def _default(field: str, schema: Schema, required: Any) -> str:
    if field in required:
        return "required"
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _note(schema: Schema) -> str:
    bounds = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}
    lengths = {"minItems": "at least {} items", "maxItems": "at most {} items", "maxLength": "at most {} characters"}
    own = [schema, *schema.get("anyOf", ())]
    said = [schema.get("description", "")]
    said += [sign + str(part[key]) for part in own for key, sign in bounds.items() if key in part]
    said += [words.format(part[key]) for part in own for key, words in lengths.items() if key in part]
    return "; ".join(filter(None, said))


def _kind(schema: Schema) -> str:
    """What a value is, in a few words; objects of a name are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_kind(part) for part in schema[choice]))
    if "allOf" in schema:
        return " and ".join(_kind(part) for part in schema["allOf"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    return _plain(schema)


def _plain(schema: Schema) -> str:
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(schema.get("format") or kind) if kind == "string" else str(kind)


def _text(said: str) -> str:
    return "\n".join(cell(line) for line in said.strip().splitlines())
