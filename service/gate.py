"""The gate: how many calls may be under way in one process, and how many of them of one tenant.

Who is turned away hears it before a key is looked up or a body is read, so that refusing costs next to nothing however
many come, and those who are let in are answered about as quickly as on a quiet day.
"""

import time
from collections import Counter

from kshot.contracts.errors import QueueFull

TARGET_S = 0.05
"""While calls are turned away, as many are let in as end within this time: a short line answers as many as a long one,
and each of them sooner."""
LEAST = 16
"""But no fewer than these: slow calls need company, or batches would be small."""
CALM_S = 1.0
"""After so long without a refusal the line may be as long as ever again: bursts are no overload."""
SHARE = 4
"""A tenant may have this many times the room that is left (dynamic thresholds, Choudhury and Hahne 1998): four fifths
of it all where he is alone, and there is always room for one who comes."""
ALWAYS = 2
"""Calls that a tenant may have under way though his neighbours take all the room."""
_WINDOW_S = 0.25
_LONGEST_WAIT_S = 10.0


class Gate:
    """Counts the calls under way. ``most``: at most so many at a time.

    With less to do than can be done, up to ``most`` calls are let in. From the first that is turned away on, the bound
    is what is answered in `TARGET_S`, until nobody was turned away for `CALM_S`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._total = 0
        self._per_s = 0.0
        self._window_from = time.monotonic()
        self._ended = 0
        self._refused = 0
        self._refused_at = float("-inf")

    def enter(self, tenant: str) -> None:
        """Let a call in, or raise QueueFull. Who was let in has to `leave`."""
        now = time.monotonic()
        if now - self._window_from >= _WINDOW_S:
            self._next_window(now)
        own = self._open[tenant]
        if own >= SHARE * (self._bound(now) - self._total) and (own >= ALWAYS or self._total >= self._most):
            self._refuse(now)
        self._open[tenant] += 1
        self._total += 1

    def leave(self, tenant: str) -> None:
        """A call ended."""
        self._ended += 1
        self._total -= 1
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]

    def _bound(self, now: float) -> float:
        if now - self._refused_at > CALM_S:
            return self._most
        return min(self._most, max(LEAST, self._per_s * TARGET_S))

    def _refuse(self, now: float) -> None:
        """As many as were turned away lately would take so long."""
        self._refused_at = now
        self._refused += 1
        wait_s = min(_LONGEST_WAIT_S, self._refused / max(1.0, self._per_s * _WINDOW_S))
        raise QueueFull("too many calls are under way; try again later", retry_after=wait_s)

    def _next_window(self, now: float) -> None:
        lately = self._ended / (now - self._window_from)
        self._per_s = (self._per_s + lately) / 2
        self._window_from, self._ended, self._refused = now, 0, 0
