"""Logs of every process: one JSON object a line, with the request it belongs to, never with its payload.

An error is told by its type and its frames, for its message may quote what a caller sent, or a row. What a library says
is told without what it fills into its words, for the same reason. What looks like a key or a password is blotted out
last, wherever it comes from.
"""

import asyncio
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]

_TALKS_OF_ITSELF = "uvicorn"
"""The one library whose words are told whole: addresses and process ids, nothing of requests."""
_SECRETS = re.compile(r"ksk_[\w-]+|(?<=://)[^/\s\"@]*:[^/\s\"]+(?=@)|(?<=[Bb]earer )[\w.~+/=-]+")
_log = structlog.get_logger()


def set_up_logs(
    stream: TextIO, level: Level = "info", about: Processor = structlog.contextvars.merge_contextvars
) -> None:
    """Our own events from ``level`` on, libraries' warnings and errors in the same form, at ``debug`` all they say.

    ``about`` adds to a line what it belongs to. What nobody catches becomes a line too. Call before the first event.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        about,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        frames_only,
    ]
    structlog.configure(
        processors=[*shared, _rendered],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(stream)
    handler.addFilter(_without_what_was_filled_in)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name], processors=[drop_meta, _rendered]
        )
    )
    logging.basicConfig(
        handlers=[handler], level=least if level == "debug" else max(least, logging.WARNING), force=True
    )
    logging.getLogger(f"{_TALKS_OF_ITSELF}.error").setLevel(max(least, logging.INFO))
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda told: _log_uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: _log_uncaught(told.exc_type, told.exc_value, told.exc_traceback)


def frames_only(_logger: object, _method: str, event: EventDict) -> EventDict:
    """``exc_info`` as the error's type and its frames. Its message stays out."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event["where"] = list(_frames(error))
    return event


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler: asyncio's own would write the error's message."""
    _log.error("unhandled", exc_info=context.get("exception"))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, _frames: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.critical("uncaught", error=kind.__name__, exc_info=error)


def _frames(error: BaseException, told: tuple[BaseException, ...] = ()) -> Iterator[str]:
    """Innermost cause first, outermost frame first. What was ``told`` is not told again: an error may have been raised
    from itself."""
    told = (*told, error)
    if error.__cause__ is not None and error.__cause__ not in told:
        yield from _frames(error.__cause__, told)
        yield f"led to {type(error).__name__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} {frame.name}"
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield f"held {type(inner).__name__}"
        yield from _frames(inner, told)


def _without_what_was_filled_in(record: logging.LogRecord) -> bool:
    """Lets every record pass, as its bare words: a library's arguments may be a caller's."""
    if record.name.partition(".")[0] != _TALKS_OF_ITSELF:
        record.msg = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        record.args = ()
    return True


_render = structlog.processors.JSONRenderer()


def _rendered(logger: object, method: str, event: EventDict) -> str:
    return _SECRETS.sub("***", str(_render(logger, method, event)))
