"""Every error as RFC 9457 problem details, FastAPI's own included. A body never holds a path, SQL, a trace or input."""

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kshot.contracts.api import Problem, ProblemItem
from kshot.contracts.errors import Invalid, KshotError, WorseThanIncumbent
from kshot.contracts.tasks import LearnerOptions
from service.console.shell import render

MEDIA_TYPE = "application/problem+json"
_MAX_ITEMS = 20
_MAX_PARAM_CHARS = 200
_OBJECTS = {
    "query": 'expected an object such as {"inputs": [...]}',
    "support": 'expected an object such as {"inputs": [...], "labels": [...]}',
}
_NAME = "expected up to 63 lower-case letters, digits and hyphens, not a hyphen first"
_PATTERNS = {
    "after": "expected the `last_id` of the page before",
    "idempotency-key": "expected 1 to 255 printable ASCII characters, no spaces",
    "checkpoint": "expected name@alias or name: lower-case letters, digits and hyphens, not a hyphen first",
    **dict.fromkeys(("tenant", "name", "learner", "encoder", "encoder.name"), _NAME),
}
_METADATA = "expected a string of at most 1000 characters, a finite number, true, false or null"
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 422: "invalid"}


_Place = tuple[str | int, ...]


class InvalidFields(Invalid):
    """A body whose fields are off; ``items`` name each of them, up to 20."""

    def __init__(self, items: Sequence[ProblemItem]) -> None:
        super().__init__(items[0].message, param=items[0].param)
        self.items = items[:_MAX_ITEMS]


def install(app: FastAPI) -> None:
    """Answer every exception a route can end with."""
    app.add_exception_handler(KshotError, _on_kshot_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def problem_response(error: KshotError, request_id: str | None) -> Response:
    """The answer to one of our own errors."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, WorseThanIncumbent) and error.promotion is not None:
        headers["Location"] = f"/v1/promotions/{error.promotion}"
    items = error.items if isinstance(error, InvalidFields) else []
    return _respond(
        error.status, error.code, error.message, request_id, param=error.param, items=items, headers=headers
    )


def internal_problem(request_id: str | None) -> Response:
    """The answer to a bug of ours; the log has the trace under the same request id."""
    return _respond(500, "internal", "an internal error; the request id finds it in the log", request_id)


def unreadable_problem(status: int) -> Response:
    """The answer to bytes that are no HTTP request: 400, or 431 where the headers have no end."""
    return _respond(status, "unreadable_request", "this is no HTTP request the server reads", None)


def fault_items(error: ValidationError, value: object, *, with_options: bool = False) -> list[ProblemItem]:
    """Pydantic's faults with ``value`` as ours: where and what, without the input. A place has one item, not one for
    each type it might have; none where a fault further in says more (of an object that might have been a name)."""
    places: dict[_Place, list[Mapping[str, Any]]] = {}
    for fault in error.errors(include_input=False, include_context=False):
        places.setdefault(_place(fault, value), []).append(fault)
    outer = {place[:n] for place in places for n in range(len(place))}
    return [_item(place, faults, with_options) for place, faults in places.items() if place not in outer]


def request_id_of(request: Request) -> str | None:
    """The id the context middleware gave this request."""
    found: str | None = request.scope.get("kshot.request_id")
    return found


def _place(fault: Mapping[str, Any], value: object) -> _Place:
    """Where in ``value`` a fault is: the parts of its location that are there, or are missing. The others are
    Pydantic's names of the types that did not fit."""
    loc: _Place = fault["loc"]
    missing = len(loc) - 1 if fault["type"] == "missing" else None
    place: list[str | int] = []
    for i, part in enumerate(loc):
        there = isinstance(value, dict) and part in value
        if there or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value = value[part]  # type: ignore[index]
        elif i != missing:
            continue
        place.append(part)
    return tuple(place)


def _item(place: _Place, faults: Sequence[Mapping[str, Any]], with_options: bool = False) -> ProblemItem:
    param = ""
    for part in place:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else str(part)
    messages = dict.fromkeys(_message(fault, param, with_options) for fault in faults)
    return ProblemItem(param=param[:_MAX_PARAM_CHARS], message=_joined(list(messages)))


def _joined(messages: Sequence[str]) -> str:
    """Several types a value might have had, in one sentence."""
    first, *others = messages
    return ", or ".join(
        [first, *(other.removeprefix("Input should be ").removeprefix("expected ") for other in others)]
    )


def _message(fault: Mapping[str, Any], param: str, with_options: bool) -> str:
    """In a caller's words: Pydantic's name our classes and show regular expressions."""
    kind = fault["type"]
    if kind == "extra_forbidden":
        meant = with_options and param in LearnerOptions.model_fields
        return f"unknown field; did you mean options.{param}?" if meant else "unknown field"
    if kind in ("model_type", "dict_type"):
        return _OBJECTS.get(param, "expected an object")
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(param.lower(), "holds characters that are not allowed")
    if param.startswith("metadata."):
        return "a name has at most 64 characters" if fault["loc"][-1] == "[key]" else _METADATA
    return str(fault["msg"])


async def _on_kshot_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KshotError)
    return problem_response(error, request_id_of(request))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's 422, about query parameters and headers; its first location part only says which of the two."""
    assert isinstance(error, RequestValidationError)
    items = [_item(fault["loc"][1:], [fault]) for fault in error.errors()]
    return problem_response(InvalidFields(items), request_id_of(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, method not allowed, unreadable form. A person who mistyped gets a page."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
        return render("refused.html", visitor=None, status=404, title="Not found", message="There is no such page.")
    code = _CODES.get(error.status_code, "error")
    detail = "no such path" if error.status_code == 404 else HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _methods(request)):
        headers["Allow"] = ", ".join(allowed)
    return _respond(error.status_code, code, detail, request_id_of(request), headers=headers)


def _methods(request: Request) -> list[str]:
    """All methods of a documented path, as RFC 9110 wants them in Allow; Starlette knows those of one route alone."""
    found: set[str] = set()
    for template, verbs in request.app.openapi()["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, request.scope["path"]):
            found |= {verb.upper() for verb in verbs}
    return sorted(found)


def _respond(
    status: int,
    code: str,
    detail: str,
    request_id: str | None,
    *,
    param: str | None = None,
    items: Sequence[ProblemItem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:kshot:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        param=param,
        errors=list(items),
        request_id=request_id,
    )
    return Response(problem.model_dump_json(), status, headers=headers, media_type=MEDIA_TYPE)
