"""A call to the service as a script: a generator that says what to do next and is told what came of it.

What a call is (requests, retries, waiting, pages, streams) is written once, here without any input or output, and
carried out by either of two drivers (`drivers.py`): one blocks, one awaits.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from kshot.client.requests import Request

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send a request. The outcome is the whole `httpx.Response`, or an `httpx.HTTPError` is thrown in."""

    request: Request


@dataclass(frozen=True)
class Listen:
    """Send a request whose answer goes on. The outcome is its `httpx.Response`, whole where it is a refusal; its body
    comes by `NextBytes`. The answer listened to before is closed."""

    request: Request


@dataclass(frozen=True)
class NextBytes:
    """More of the answer listened to. The outcome is bytes, or None at its end."""


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Hand an item to whoever iterates."""

    item: Any


@dataclass(frozen=True)
class Return(Generic[T]):
    """The script has ended with this value."""

    value: T


Step = Send | Listen | NextBytes | Sleep | Emit
Outcome = httpx.Response | bytes | httpx.HTTPError | None
Script = Generator[Step, Any, T]


def advance(script: Script[T], outcome: Outcome) -> Step | Return[T]:
    """Tell a script what came of its last step (None for its first); its next step, or what it returns."""
    try:
        return script.throw(outcome) if isinstance(outcome, httpx.HTTPError) else script.send(outcome)
    except StopIteration as stop:
        return Return(stop.value)
