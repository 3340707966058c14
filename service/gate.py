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
LEAST = 8
"""But no fewer than these: slow calls need company, or batches would be small."""
CALM_S = 1.0
"""After so long without a refusal the line may be as long as ever again: bursts are no overload."""
SHARE = 4
"""A tenant may have this many times the room that is left (dynamic thresholds, Choudhury and Hahne 1998), so there is
always room for one who comes. Where nobody else has asked lately, that need not be a fifth of it all, but `LEAST`."""
ALWAYS = 2
"""Calls that a tenant may have under way though his neighbours take all the room."""
_WINDOW_S = 1.0
_LONGEST_WAIT_S = 10.0


class Gate:
    """Counts the calls under way. ``most``: at most so many at a time.

    With less to do than can be done, up to ``most`` calls are let in. From the first that is turned away on, the bound
    is what is answered in `TARGET_S`, until nobody was turned away for `CALM_S`. A tenant who asks for no more than an
    equal part of what is answered is not turned away on account of the others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._total = 0
        self._refused_at = float("-inf")
        self._window_from = time.monotonic()
        self._per_s = 0.0
        self._ended = 0
        self._refused = self._refused_before = 0
        self._asked: Counter[str] = Counter()
        self._asked_before: Counter[str] = Counter()

    def enter(self, tenant: str) -> None:
        """Let a call in, or raise QueueFull. Who was let in has to `leave`."""
        now = time.monotonic()
        if now - self._window_from >= _WINDOW_S:
            self._next_window(now)
        self._asked[tenant] += 1
        own = self._open[tenant]
        pushes_in = own < ALWAYS or self._is_modest(tenant)
        if own >= self._allowed(tenant, self._bound(now)) and not (pushes_in and self._total < self._most):
            self._refuse(now)
        self.step_in(tenant)

    def leave(self, tenant: str) -> None:
        """A call ended."""
        self._ended += 1
        self.step_aside(tenant)

    def step_in(self, tenant: str) -> None:
        """A call that stepped aside is back: it was let in before."""
        self._open[tenant] += 1
        self._total += 1

    def step_aside(self, tenant: str) -> None:
        """A call makes room for others, until it steps in."""
        self._total -= 1
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]

    def _allowed(self, tenant: str, bound: float) -> float:
        """How many calls a tenant may have under way, of ``bound``."""
        if self._is_alone(tenant):
            return bound - min(LEAST, bound / (SHARE + 1))
        return SHARE * (bound - self._total)

    def _is_alone(self, tenant: str) -> bool:
        """Whether nobody else has a call under way, or asked in this window or in the one before."""
        return all(len(of) == (tenant in of) for of in (self._open, self._asked, self._asked_before))

    def _bound(self, now: float) -> float:
        if now - self._refused_at > CALM_S:
            return self._most
        return min(self._most, max(LEAST, self._per_s * TARGET_S))

    def _is_modest(self, tenant: str) -> bool:
        """By the window before as well: the first calls of every window would be modest otherwise."""
        equal_part = self._per_s * _WINDOW_S / max(1, len(self._asked_before))
        return 0 < self._asked_before[tenant] <= equal_part and self._asked[tenant] <= equal_part

    def _refuse(self, now: float) -> None:
        """As many as were turned away lately would take so long."""
        self._refused_at = now
        self._refused += 1
        lately = max(self._refused, self._refused_before)
        wait_s = min(_LONGEST_WAIT_S, lately / max(1.0, self._per_s * _WINDOW_S))
        raise QueueFull("too many calls are under way; try again later", retry_after=wait_s)

    def _next_window(self, now: float) -> None:
        passed = now - self._window_from
        self._per_s = (self._per_s + self._ended / passed) / 2
        self._window_from, self._ended = now, 0
        just_now = passed < 2 * _WINDOW_S
        self._asked_before = self._asked if just_now else Counter()
        self._refused_before = self._refused if just_now else 0
        self._asked, self._refused = Counter(), 0
