"""Waiting for what the service is still making."""

import time
from collections.abc import Callable

import httpx

from kshot.client.failures import WaitTimedOut, explained
from kshot.client.requests import Param, Request
from kshot.client.steps import Script, Sleep

PENDING = ("queued", "running")
_POLL_S = 20
_MIN_PAUSE_S = 0.2


class Deadline:
    """``seconds`` from now; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when it has passed."""
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def poll_s(self) -> int:
        """For how long to ask the service to wait with its next answer."""
        return int(min(_POLL_S, self.left))


def preferring(request: Request, deadline: Deadline) -> Request:
    """The request, asking for an answer when the thing is made, but for no later one than ``deadline``."""
    seconds = deadline.poll_s
    prefer = f"wait={seconds}" if seconds else "respond-async"
    return request.patient(seconds).with_headers(Prefer=prefer)


def polled(
    look: Callable[[Request], Script[httpx.Response]],
    path: str,
    deadline: Deadline,
    what: str,
    is_pending: Callable[[httpx.Response], bool],
) -> Script[httpx.Response]:
    """The object at ``path`` once it is no longer pending, by long polls. Raises WaitTimedOut."""
    while True:
        began, seconds = time.monotonic(), deadline.poll_s
        params: dict[str, Param] = {"wait": seconds} if seconds else {}
        response = yield from look(Request("GET", path, params=params).patient(seconds))
        if not is_pending(response):
            return response
        if deadline.left <= 0:
            raise timed_out(what, path)
        if time.monotonic() - began < _MIN_PAUSE_S:
            yield Sleep(min(deadline.left, 1.0))


def timed_out(what: str, path: str) -> WaitTimedOut:
    """The error that says what goes on without us."""
    name = path.rpartition("/")[2]
    return explained(
        WaitTimedOut(f"{what} {name} is not there yet"), remedy=f"wait again: it has id {name} and goes on"
    )
