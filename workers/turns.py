"""Whose turn it is: tenants get equal shares of the worker's time, however much each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): an item's turn is where its tenant's earlier items end, in
seconds of computation that the worker owes the tenant, but not before what is computed now. The least turn comes
first. So one item of a tenant who was quiet goes before the thousand of his neighbour, a tenant alone is served in
order, and nobody saves up claims by asking for nothing.
"""

import time

from workers.work import Key, Work

FIRST_GUESS_S = 0.001
"""A unit of weight costs so much until a batch of its key was computed."""
SLICE_S = 0.03
"""While several tenants ask, a batch takes about so long at most: whoever comes next waits for no more."""
LEAST = 4.0
"""But a batch may have this weight whatever it costs: where a batch costs much and its items little, small ones would
cost everybody several times as much, and still take longer than a slice."""
_LATELY_S = 10.0
_KEPT = 1000


class Turns:
    """Of one worker. Costs are seconds of computation, by what the last batches of a key took."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ends: dict[tuple[str, bool], float] = {}
        self._prices: dict[Key, float] = {}
        self._last: str | None = None
        self._changed_at = float("-inf")

    def turn(self, work: Work) -> float:
        """The turn of an item that just came."""
        if work.tenant != self._last:
            self._changed_at = time.monotonic() if self._last is not None else self._changed_at
            self._last = work.tenant
        whose = work.tenant, work.key.background
        begin = max(self._now, self._ends.get(whose, 0.0))
        self._ends[whose] = begin + work.weight * self._prices.get(work.key, FIRST_GUESS_S)
        return begin

    def began(self, turn: float) -> None:
        """A batch is computed now whose first item has this turn. Those of its company may be later, and count for
        nothing here: whoever comes next would have to wait for what is owed before them."""
        self._now = max(self._now, turn)
        if len(self._ends) > _KEPT:
            self._ends = {whose: end for whose, end in self._ends.items() if end > self._now}

    def rest(self) -> None:
        """Nothing waits: nobody is owed anything."""
        self._now = max([self._now, *self._ends.values()])
        self._ends.clear()

    def took(self, key: Key, weight: int, seconds: float) -> None:
        """A batch of this weight was computed."""
        lately = seconds / max(weight, 1)
        if len(self._prices) >= _KEPT:
            self._prices.clear()
        self._prices[key] = (self._prices.get(key, lately) + lately) / 2

    def expected_s(self, work: Work) -> float | None:
        """What computing this item alone takes, by what was like it lately; None: nothing was."""
        price = self._prices.get(work.key)
        return None if price is None else work.weight * price

    def most(self, key: Key) -> float:
        """The weight that a batch of this key may have: any, unless several tenants asked for something lately."""
        price = self._prices.get(key)
        if not price or time.monotonic() - self._changed_at > _LATELY_S:
            return float("inf")
        return max(LEAST, SLICE_S / price)
