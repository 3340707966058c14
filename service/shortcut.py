"""The call that is made most often goes straight to its function.

FastAPI's way from a path to a function (matching, dependencies, exit stacks, one wrapper about another) takes longer
than `predict` itself, which reads all it needs from the request. The route stays registered: it is what the document
shows, and what answers any other method.
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
    """Plain ASGI, inside the request's context. ``routes``: (method, path) -> endpoint."""

    def __init__(self, app: ASGIApp, routes: dict[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = SimpleNamespace(path=scope["path"])
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except KshotError as error:
            response = problem_response(error, request_id_of(request))
        await response(scope, receive, send)
