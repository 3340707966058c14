"""Orders that wait at the same moment are recorded together: one statement and one flush of the log serve them all."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass

from kshot.contracts.errors import Unavailable
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.orders import NewOrder, Room, insert_orders
from service.database import Database
from service.logs import log

_GROUP = 128
_GROUP_BYTES = 8 * 1024 * 1024
"""Supports of one statement, together: they are in memory three times while it is written."""
_LARGE_BYTES = 1024 * 1024
"""Orders from here on are written each by itself, beside the groups: nobody waits for another's photographs."""


@dataclass(frozen=True)
class _Waiting:
    order: NewOrder
    done: "asyncio.Future[AdaptedModel | None]"


class Committer:
    """Records the orders of one API process. No timer: an order that comes to an idle committer is written at once, and
    those that come meanwhile are the next group."""

    def __init__(self, database: Database, room: Room) -> None:
        self._database = database
        self._room = room
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def record(self, order: NewOrder) -> AdaptedModel | None:
        """The model made; None where that needs a transaction of its own, and nothing is written yet. Unavailable.

        A request that is cancelled leaves its order recorded, or not: nothing in between, and its group goes on.
        """
        waiting = _Waiting(order, asyncio.get_running_loop().create_future())
        if order.n_bytes >= _LARGE_BYTES:
            await self._write([waiting])
            return waiting.done.result()
        self._waiting.append(waiting)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups(), context=Context())
        return await waiting.done

    async def _write_groups(self) -> None:
        try:
            while group := self._next_group():
                if not await self._write(group):  # who came meanwhile would wait as long, for the same answer
                    _tell(self._waiting, Unavailable("the database is away; try again", retry_after=2))
                    self._waiting.clear()
        finally:
            self._writing = None

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        n_bytes = 0
        while self._waiting and len(group) < _GROUP:
            n_bytes += self._waiting[0].order.n_bytes
            if group and n_bytes > _GROUP_BYTES:
                break
            waiting = self._waiting.popleft()
            if not waiting.done.done():  # else its request is gone
                group.append(waiting)
        return group

    async def _write(self, group: Sequence[_Waiting]) -> bool:
        """Each order hears how it went. False where the database is away."""
        try:
            async with self._database.single() as connection:
                made = await insert_orders(connection, [waiting.order for waiting in group], self._room)
        except Unavailable as error:
            _tell(group, error)
            return False
        except Exception as error:  # one of them is at fault: each by itself finds out which
            log.warning("group_refused", orders=len(group), error=type(error).__name__)
            _tell(group, None)
            return True
        for waiting in group:
            _tell([waiting], made.get(waiting.order.model.id))
        return True


def _tell(group: Iterable[_Waiting], outcome: AdaptedModel | Unavailable | None) -> None:
    for waiting in group:
        if waiting.done.done():
            continue
        if isinstance(outcome, Unavailable):
            waiting.done.set_exception(outcome)
        else:
            waiting.done.set_result(outcome)
