"""The outermost middleware: request id in and out, one log line and one count per request, the loopback rule."""

import ipaddress
import re
import time
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kshot.contracts.ids import new_id
from service.errors import internal_problem
from service.logs import begin_request, log, log_request
from service.metrics import Metrics

_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""A browser is to take every answer for what it says it is."""
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,100}$")


class RequestContext:
    """Plain ASGI, so that bodies stream through untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["kshot.request_id"] = request_id
        started = time.perf_counter()
        status = 499  # the client left before an answer began

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = ((b"x-request-id", request_id.encode()), _NO_SNIFFING)
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        begin_request(scope, request_id)
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("unhandled", exc_info=error)
            if status == 499:
                await internal_problem(request_id)(scope, receive, send_with_id)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = template_of(scope)
        self._metrics.seen(scope["method"], route, status, seconds)
        log_request(scope, route, status, seconds * 1000)


def template_of(scope: Scope) -> str:
    """The path with names for its ids, so that there are few. FastAPI's routes do not say the prefix that their router
    was included with; without it the console's ``/jobs`` and the API's ``/v1/jobs`` would look alike."""
    path: str = getattr(scope.get("route"), "path", "unmatched")
    is_bare = path.startswith("/") and not path.startswith("/v1/")
    return f"/v1{path}" if is_bare and scope["path"].startswith("/v1/") else path


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only. ``host`` may carry a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-Id where it is harmless, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.match(given):
                return str(given)
    return new_id("req")
