"""Queues of decoded work, one per key, and the choice of the next batch."""

import asyncio
import heapq
import itertools
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


class _Line:
    """The items of one key, in the order they came, with the sum of their weights."""

    __slots__ = ("items", "weight")

    def __init__(self) -> None:
        self.items: deque[Work] = deque()
        self.weight = 0

    def add(self, work: Work) -> None:
        self.items.append(work)
        self.weight += work.weight

    def take(self) -> Work:
        work = self.items.popleft()
        self.weight -= work.weight
        return work


class Queues:
    """Work that waits for the processor.

    A batch holds items of one key, the one whose head waited longest; replays, for which nobody waits, come last. An
    idle worker starts at once; a busy one gives an item that came just now up to 2 ms for company.

    Thousands of keys may wait: ``_heads`` is a heap with an entry for the head of each line, and maybe some for heads
    that are gone, which are dropped when they come up.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[Key, _Line] = {}
        self._heads: list[tuple[bool, float, int, Work]] = []
        self._count = itertools.count()
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, work: Work) -> None:
        """Let an item wait its turn."""
        line = self._lines.get(work.key)
        if line is None:
            line = self._lines[work.key] = _Line()
            self._note_head(work)
        line.add(work)
        self._arrived.set()

    async def next(self) -> list[Work] | None:
        """The next batch; None once closed and empty."""
        idle = False
        while self._lines or not self._closed:
            if not self._lines:
                idle = True
                await self._arrival()
            elif not idle:
                await self._linger()
            if self._lines:  # while it waited, all may have been taken out
                return self._pop(self._oldest())
        return None

    def take_out(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Remove the items that are not to run after all."""
        waiting = [work for line in self._lines.values() for work in line.items]
        self._lines, self._heads = {}, []
        removed = []
        for work in waiting:
            if unwanted(work):
                removed.append(work)
            else:
                self.put(work)
        return removed

    def close(self) -> None:
        """Nothing more will come: `next` hands out what is left and then None."""
        self._closed = True
        self._arrived.set()

    async def _arrival(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _linger(self) -> None:
        while self._lines and not self._closed:
            head = self._oldest()
            left = head.arrived + LINGER_S - time.monotonic()
            if left <= 0 or self._lines[head.key].weight >= self._limits.of(head.key):
                return
            try:
                async with asyncio.timeout(left):
                    await self._arrival()
            except TimeoutError:
                return

    def _note_head(self, work: Work) -> None:
        heapq.heappush(self._heads, (work.key.background, work.arrived, next(self._count), work))

    def _oldest(self) -> Work:
        """The head that comes first; there is one."""
        while True:
            head = self._heads[0][-1]
            line = self._lines.get(head.key)
            if line is not None and line.items[0] is head:
                return head
            heapq.heappop(self._heads)

    def _pop(self, head: Work) -> list[Work]:
        line, limit = self._lines[head.key], self._limits.of(head.key)
        batch = [line.take()]
        weight = head.weight
        while line.items and weight + line.items[0].weight <= limit:
            weight += line.items[0].weight
            batch.append(line.take())
        if line.items:
            self._note_head(line.items[0])
        else:
            del self._lines[head.key]
        return batch
