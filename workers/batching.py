"""Queues of decoded work, one per key, and the choice of the next batch."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kshot.contracts.selection import AUTO
from workers.turns import Turns
from workers.work import Key, Work

LINGER_S = 0.002
_QUICK_S = 0.004
"""What the event loop may be kept from everything else for."""
_QUICK_BYTES = 128 * 1024


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


_Waiting = tuple[float, int, Work]
"""An item with its turn; equal turns come in the order of their numbers."""


class _Line:
    """The items of one key, the next one first, with the sum of their weights."""

    __slots__ = ("items", "weight")

    def __init__(self) -> None:
        self.items: list[_Waiting] = []
        self.weight = 0

    @property
    def head(self) -> Work:
        """Whose turn comes first; there is one."""
        return self.items[0][-1]

    def add(self, waiting: _Waiting) -> None:
        heapq.heappush(self.items, waiting)
        self.weight += waiting[-1].weight

    def take(self) -> Work:
        work = heapq.heappop(self.items)[-1]
        self.weight -= work.weight
        return work


class Queues:
    """Work that waits for the processor.

    A batch holds items of one key, the one whose head has its turn first (`workers/turns.py`: tenants take turns, and
    of one tenant what came first); replays, for which nobody waits, come last. An idle worker starts at once; a busy
    one gives an item that came just now up to 2 ms for company.

    Thousands of keys may wait: ``_heads`` is a heap with an entry for the head of each line, and maybe some for what is
    not the head (any more), which are dropped when they come up.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = Turns()
        self._lines: dict[Key, _Line] = {}
        self._heads: list[tuple[bool, float, int, Work]] = []
        self._count = itertools.count()
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, work: Work) -> None:
        """Let an item wait its turn."""
        self._add((self._turns.turn(work), next(self._count), work))
        self._arrived.set()

    def took(self, batch: Sequence[Work], seconds: float) -> None:
        """Computing this batch took so long: what is like it costs as much."""
        self._turns.took(batch[0].key, sum(work.weight for work in batch), seconds)

    def is_quick(self, batch: Sequence[Work]) -> bool:
        """Whether the batch is one small item that takes next to no time, and nothing else waits: handing it to a
        thread and back would take a good part of that."""
        if len(batch) > 1 or self._lines or batch[0].n_bytes > _QUICK_BYTES:
            return False
        expected = self._turns.expected_s(batch[0])
        return expected is not None and expected <= _QUICK_S

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
                return self._pop(self._next_head())
        return None

    def take_out(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Remove the items that are not to run after all."""
        waiting = [item for line in self._lines.values() for item in line.items]
        self._lines, self._heads = {}, []
        removed = []
        for item in sorted(waiting, key=lambda item: item[:2]):
            if unwanted(item[-1]):
                removed.append(item[-1])
            else:
                self._add(item)
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
            head = self._next_head()
            left = head.arrived + LINGER_S - time.monotonic()
            if left <= 0 or self._lines[head.key].weight >= self._limits.of(head.key):
                return
            try:
                async with asyncio.timeout(left):
                    await self._arrival()
            except TimeoutError:
                return

    def _add(self, waiting: _Waiting) -> None:
        key = waiting[-1].key
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        line.add(waiting)
        if line.items[0] is waiting:
            self._note_head(line)

    def _note_head(self, line: _Line) -> None:
        turn, number, work = line.items[0]
        heapq.heappush(self._heads, (work.key.background, turn, number, work))

    def _next_head(self) -> Work:
        """The head that comes first; there is one."""
        while True:
            head = self._heads[0][-1]
            line = self._lines.get(head.key)
            if line is not None and line.head is head:
                return head
            heapq.heappop(self._heads)

    def _pop(self, head: Work) -> list[Work]:
        line = self._lines[head.key]
        limit = min(self._limits.of(head.key), self._turns.most(head.key))
        self._turns.began(line.items[0][0])
        batch, weight = [line.take()], head.weight
        while line.items and weight + line.head.weight <= limit:
            weight += line.head.weight
            batch.append(line.take())
        if line.items:
            self._note_head(line)
        else:
            del self._lines[head.key]
        if not self._lines:
            self._turns.rest()
        return batch
