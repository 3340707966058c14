"""What the API's log lines say of the request they belong to."""

import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from starlette.types import Scope

from kshot.logs import Level, set_up_logs

log = structlog.get_logger()
_ABOUT = "kshot.about"
_about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)
"""What every line of a request says of it. One variable, set once: structlog's own cost a copy each."""
_tells_requests = True


def begin_request(scope: Scope, request_id: str) -> None:
    """From here on this task's lines name the request."""
    about = scope[_ABOUT] = {"request_id": request_id}
    _about.set(about)


def note_caller(scope: Scope, tenant: str, key: str | None) -> None:
    """And from here on its caller."""
    about = scope.get(_ABOUT)
    if about is not None:
        about.update(tenant=tenant, key=key)


def log_request(scope: Scope, route: str, status: int, ms: float) -> None:
    """The line of a request that was answered: one for each, so written without a detour."""
    if not _tells_requests:
        return
    line = {
        "method": scope["method"],
        "route": route,
        "status": status,
        "ms": round(ms, 2),
        "event": "request",
        **scope[_ABOUT],
        "level": "info",
        "timestamp": datetime.now(UTC),
    }
    sys.stderr.write(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE).decode())


def configure_logs(level: Level = "info") -> None:
    """Lines on standard error: of requests, where ``level`` lets them pass, and as `kshot.logs` has all others."""
    global _tells_requests  # noqa: PLW0603 - one standard error for the process
    _tells_requests = level in ("debug", "info")
    set_up_logs(sys.stderr, level, _name_request)


def _name_request(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:  # fmt: skip
    about = _about.get()
    return event if about is None else {**about, **event}
