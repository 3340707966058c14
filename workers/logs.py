"""JSON lines on standard output: one event a line, with the request it belongs to, never with its payload."""

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import structlog

_log = structlog.get_logger()


def set_up_logs() -> None:
    """Our own events and those of libraries, in the same form. Call once, before the first event."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        frames_only,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    handler = logging.StreamHandler(sys.stdout)
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[drop_meta, structlog.processors.JSONRenderer()]
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def frames_only(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """``exc_info`` as the error's type and its frames. Its message stays out: it may quote a payload."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event["where"] = list(_frames(error))
    return event


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler: asyncio's own would write the error's message."""
    _log.error("unhandled", exc_info=context.get("exception"))


def _frames(error: BaseException) -> Iterator[str]:
    """Innermost cause first, outermost frame first."""
    if error.__cause__ is not None:
        yield from _frames(error.__cause__)
        yield f"led to {type(error).__name__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} {frame.name}"
