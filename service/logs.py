"""Structured logs: one JSON object per line on standard error. Never a key, never a payload."""

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from starlette.types import Scope

log = structlog.get_logger()
_ABOUT = "kshot.about"
_about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)
"""What every line of a request says of it. One variable, set once: structlog's own cost a copy each."""


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


def configure_logs() -> None:
    """Our own events and those of uvicorn and other libraries, in the same form."""
    shared: list[structlog.typing.Processor] = [
        _name_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns about every malformed byte


def where(error: BaseException) -> list[str]:
    """The frames of an error, outermost first. Its message stays out: it may quote a payload."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _name_request(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:  # fmt: skip
    about = _about.get()
    return event if about is None else {**about, **event}
