"""Queues of decoded work, one per key, and the choice of the next batch."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kshot.contracts.selection import AUTO
from workers.work import Key, Work

LINGER_S = 0.002


@dataclass(frozen=True)
class Limits:
    """Items in one batch, at most. A single item over a limit still runs, alone."""

    tasks: int
    queries: int

    @property
    def replays(self) -> int:
        """Replays claimed at a time: few, because a caller's task may have to wait for them once they run."""
        return max(self.tasks // 4, 1)

    def of(self, key: Key) -> int:
        """The limit that counts for a key's items. Choosing a checkpoint runs several of them: one item at a time."""
        if key.checkpoint == AUTO:
            return 1
        return self.queries if key.operation == "predict" else self.tasks


class Queues:
    """Work that waits for the processor.

    A batch holds items of one key, the one whose head waited longest; replays, for which nobody waits, come last. An
    idle worker starts at once; a busy one gives an item that came just now up to 2 ms for company.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_key: dict[Key, deque[Work]] = {}
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, work: Work) -> None:
        """Let an item wait its turn."""
        self._by_key.setdefault(work.key, deque()).append(work)
        self._arrived.set()

    async def next(self) -> list[Work] | None:
        """The next batch; None once closed and empty."""
        idle = False
        while self._by_key or not self._closed:
            if not self._by_key:
                idle = True
                await self._arrival(None)
            elif not idle:
                await self._linger()
            if self._by_key:  # while it waited, all may have been taken out
                return self._pop(self._oldest())
        return None

    def take_out(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Remove the items that are not to run after all."""
        removed: list[Work] = []
        for key, waiting in list(self._by_key.items()):
            removed += [work for work in waiting if unwanted(work)]
            kept = deque(work for work in waiting if not unwanted(work))
            if kept:
                self._by_key[key] = kept
            else:
                del self._by_key[key]
        return removed

    def close(self) -> None:
        """Nothing more will come: `next` hands out what is left and then None."""
        self._closed = True
        self._arrived.set()

    async def _arrival(self, at_most_s: float | None) -> None:
        self._arrived.clear()
        try:
            await asyncio.wait_for(self._arrived.wait(), at_most_s)
        except TimeoutError:
            pass

    async def _linger(self) -> None:
        while self._by_key and not self._closed and not self._full(key := self._oldest()):
            left = self._by_key[key][0].arrived + LINGER_S - time.monotonic()
            if left <= 0:
                return
            await self._arrival(left)

    def _oldest(self) -> Key:
        return min(self._by_key, key=lambda key: (key.background, self._by_key[key][0].arrived))

    def _full(self, key: Key) -> bool:
        return sum(work.weight for work in self._by_key[key]) >= self._limits.of(key)

    def _pop(self, key: Key) -> list[Work]:
        waiting, limit = self._by_key[key], self._limits.of(key)
        batch = [waiting.popleft()]
        weight = batch[0].weight
        while waiting and weight + waiting[0].weight <= limit:
            weight += waiting[0].weight
            batch.append(waiting.popleft())
        if not waiting:
            del self._by_key[key]
        return batch
