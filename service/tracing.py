"""The span of each request: the first of its trace, or below the one that the caller's `traceparent` names."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kshot import tracing
from service.context import template_of

_HEADER = b"traceparent"


class RequestTrace:
    """Plain ASGI, right inside the request's context; only there where requests are traced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None)
        about: tracing.Note = {"http.request.method": scope["method"], "kshot.request_id": scope["kshot.request_id"]}
        with tracing.span(scope["method"], "server", parent, about) as note:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    note["http.response.status_code"] = message["status"]
                    if message["status"] >= 500:
                        note["error.type"] = str(message["status"])
                await send(message)

            try:
                await self._app(scope, receive, send_noting)
            finally:
                note["http.route"] = template_of(scope)
                note["name"] = f"{scope['method']} {note['http.route']}"
