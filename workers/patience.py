"""What to do while a part of the stack is away: wait and try again, never die, never lose."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from kshot.storage import database
from workers.device import DeviceLost

T = TypeVar("T")

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 2.0

_log = structlog.get_logger()


def is_away(error: BaseException) -> bool:
    """Whether the error says "a server or the disk is unavailable", rather than "this request is wrong"."""
    return isinstance(error, RedisError | OSError | TimeoutError) or database.is_away(error)


async def patiently(action: Callable[[], Awaitable[T]], *, tries: int | None = None) -> T:
    """The action's result, tried again while what it needs is away; ``tries`` bounds that.

    Raises what the action raised: at once where waiting does not help, else after the last try.
    """
    delay, tried = _FIRST_DELAY_S, 0
    while True:
        try:
            return await action()
        except Exception as error:
            tried += 1
            if not is_away(error) or tried == tries:
                raise
            _log.warning("waiting", error=type(error).__name__, tried=tried)
        await asyncio.sleep(delay)
        delay = min(2 * delay, _LONGEST_DELAY_S)


async def every(seconds: float, action: Callable[[], Awaitable[object]]) -> None:
    """Repeat the action for as long as the worker lives; a failure is logged, and the next turn comes.

    Raises DeviceLost: the worker does not live on.
    """
    while True:
        try:
            await action()
        except DeviceLost:
            raise
        except Exception as error:
            _log.warning(
                "periodic_failed", what=action.__qualname__, error=type(error).__name__, exc_info=not is_away(error)
            )
        await asyncio.sleep(seconds)
