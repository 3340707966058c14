"""The two calls that are made most often go straight to their functions.

FastAPI's way from a path to a function (matching, dependencies, exit stacks, one wrapper about another) is processor
time that `predict` and `adapt`, which read all they need from the request, can do without. The routes stay registered:
they are what the document shows, and what answers any other method, and requests with an idempotency key, which FastAPI
checks.
"""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kshot.contracts.errors import KshotError
from service.errors import problem_response, request_id_of

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """Plain ASGI, inside the request's context. ``routes``: path -> what answers a POST."""

    def __init__(self, app: ASGIApp, routes: dict[str, Endpoint]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST" or _has_idempotency_key(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = SimpleNamespace(path=scope["path"])
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except KshotError as error:
            response = problem_response(error, request_id_of(request))
        await response(scope, receive, send)


def _has_idempotency_key(scope: Scope) -> bool:
    return any(name == b"idempotency-key" for name, _ in scope["headers"])
