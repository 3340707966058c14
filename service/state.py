"""What the lifespan builds once and every request receives."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from kshot.queue.front import FrontQueue
from kshot.storage.checkpoints import StoredCheckpoint, get_checkpoint
from kshot.storage.objects import ObjectStore
from kshot.storage.workers import LiveWorker, live_workers
from service.arriving import Anteroom
from service.bodies.stream import JSON, Raw
from service.bodies.strict_json import TakesLong
from service.committing import Committer
from service.database import Database
from service.gate import Gate
from service.metrics import Metrics
from service.parents import Parents
from service.rates import Rates
from service.rounds import Rounds
from service.settings import Settings

T = TypeVar("T")
_log = structlog.get_logger()
_INLINE_BYTES = 256 * 1024
"""Vectors up to here are read and decoded in the event loop, in a millisecond or two: with other requests under way, a
thread would make all of them wait longer. Forms count fourfold (`Raw.cost`)."""
_INLINE_SLOW_BYTES = 64 * 1024
"""The same for JSON that orjson alone cannot read."""
_CHECKPOINTS_KEPT = 256
_CHECKPOINT_FRESH_S = 5.0
_STORE_FRESH_S = 5.0


@dataclass
class State:
    """The parts of one API process. ``tenants``: whose a key was when it was last seen, by its sha256; a guess, never
    an answer; and so are the ``own_rates`` of tenants that have a quota of requests, and the ``aliases`` (name, alias)
    that tenants adapted last. ``quotas``: of all others. ``checkers``: of processes that read uploaded data sets.
    ``calls_gate``: of calls whose caller waits for a worker; ``orders_gate``: of orders that are recorded for later."""

    settings: Settings
    database: Database
    queue: FrontQueue
    objects: ObjectStore
    rates: Rates
    sign_ins: Rates
    metrics: Metrics
    committer: Committer
    calls_gate: Gate
    orders_gate: Gate
    keys_exist: bool = False
    tenants: dict[bytes, str] = field(default_factory=dict)
    aliases: dict[str, tuple[str, str]] = field(default_factory=dict)
    own_rates: dict[str, int] = field(default_factory=dict)
    closing: bool = False
    checkers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    _decoders: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    _checkpoints: OrderedDict[str, tuple[float, StoredCheckpoint]] = field(default_factory=OrderedDict)
    _workers: tuple[float, list[LiveWorker]] = (-math.inf, [])
    _looking: "asyncio.Task[list[LiveWorker]] | None" = None
    _store: tuple[float, bool] = (-math.inf, False)
    _asking_store: "asyncio.Task[bool] | None" = None
    parents: Parents = field(default_factory=Parents)
    rounds: Rounds = field(default_factory=Rounds)
    """In which orders are read."""
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.quotas = self.settings.quotas
        # bodies that are long in coming may hold a quarter of what those of all calls under way may
        self.anteroom = Anteroom(self.settings.max_calls * self.settings.max_body_bytes // 4)

    async def compute(self, n_bytes: int, work: Callable[[], T], *, images: bool = False) -> T:
        """Run parsing or decoding: large ones in one of four threads, so that memory and the event loop survive.

        Images always count as large: few bytes can unfold to many pixels.
        """
        if n_bytes <= _INLINE_BYTES and not images:
            return work()
        return await to_thread.run_sync(work, limiter=self._decoders)

    async def read(self, raw: Raw, parse: Callable[[Raw], T]) -> T:
        """Parse a body, as `compute` does; one of some size that only the slow reader of JSON can read goes to a
        thread."""
        if raw.media_type == JSON and _INLINE_SLOW_BYTES < len(raw.data) <= _INLINE_BYTES:
            try:
                return parse(replace(raw, quick=True))
            except TakesLong:
                return await to_thread.run_sync(parse, raw, limiter=self._decoders)
        return await self.compute(raw.cost, lambda: parse(raw))

    async def checkpoint(self, id: str) -> StoredCheckpoint:
        """A checkpoint by id, as of a few seconds ago: it never changes, but it may be deleted. Nothing that stays is
        made with it then, whatever is remembered here (`hold_checkpoint`). Raises NotFound, Expired."""
        asked, found = self._checkpoints.get(id, (-math.inf, None))
        if found is None or time.monotonic() - asked > _CHECKPOINT_FRESH_S:
            self._checkpoints.pop(id, None)
            async with self.database.single() as connection:
                found = await get_checkpoint(connection, id)
            self._checkpoints[id] = time.monotonic(), found
        self._checkpoints.move_to_end(id)
        while len(self._checkpoints) > _CHECKPOINTS_KEPT:
            self._checkpoints.popitem(last=False)
        return found

    def forget_checkpoint(self, id: str) -> None:
        """It was deleted just now, through this process."""
        self._checkpoints.pop(id, None)

    async def workers(self) -> list[LiveWorker]:
        """Adaptation workers alive, as of at most a second ago."""
        return await self._alive("adaptation")

    async def trainers(self) -> list[LiveWorker]:
        """Trainers alive, as of at most a second ago."""
        return await self._alive("trainer")

    async def _alive(self, kind: str) -> list[LiveWorker]:
        asked, seen = self._workers
        found = [worker for worker in seen if worker.kind == kind]
        if found and time.monotonic() - asked <= 1:  # where there was none, one may just have come
            return found
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), context=Context())
        alive = await asyncio.shield(self._looking)  # all who ask meanwhile share the answer, or the error
        return [worker for worker in alive if worker.kind == kind]

    async def _look(self) -> list[LiveWorker]:
        async with self.database.single() as connection:
            found = await live_workers(connection, self.settings.worker_seen_s)
        self._workers = time.monotonic(), found
        return found

    async def store_answers(self) -> bool:
        """Whether the object store can be reached, as of at most a few seconds ago. All who ask meanwhile share one
        thread: a store that hangs takes no more of them."""
        asked, answers = self._store
        if time.monotonic() - asked <= _STORE_FRESH_S:
            return answers
        if self._asking_store is None or self._asking_store.done():
            self._asking_store = asyncio.create_task(self._ask_store(), context=Context())
        return await asyncio.shield(self._asking_store)

    async def _ask_store(self) -> bool:
        try:
            await to_thread.run_sync(self.objects.check)
            answers = True
        except OSError as error:
            _log.warning("object_store_away", error=error.strerror)
            answers = False
        self._store = time.monotonic(), answers
        return answers

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something no answer waits for. It must handle its own errors."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def get_state(request: Request) -> State:
    """The state of the app that serves this request."""
    state: State = request.app.state.kshot
    return state


StateDep = Annotated[State, Depends(get_state)]
