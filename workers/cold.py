"""States that are not in memory: all that are missed at one moment are read together."""

import asyncio
from collections.abc import Sequence

import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import KshotError
from kshot.learners.state import load_state
from kshot.storage.objects import ObjectStore, sha256
from kshot.storage.states import StoredState, Wanted, read_states
from workers.states import StateKey, States, moved, own_memory
from workers.work import Adapted


class Damaged(Exception):
    """A stored object is not what was stored. The caller reads of an internal error; the log says whose."""


class ColdStates:
    """Brings states onto the device: from host memory, from their rows (one statement for all that are wanted in one
    turn of the event loop), from the object store. Whoever wants the same one shares it."""

    def __init__(self, database: AsyncEngine, objects: ObjectStore, device: torch.device, states: States) -> None:
        self._database = database
        self._objects = objects
        self._device = device
        self._states = states
        self._coming: dict[Wanted, asyncio.Future[Adapted]] = {}
        self._next: list[Wanted] = []
        self._loads: set[asyncio.Task[None]] = set()

    async def read(self, wanted: Wanted) -> Adapted:
        """The state, which is in memory from now on.

        Raises NotFound (another tenant's too), Expired, Conflict, Damaged; OSError, or the database's own errors.
        """
        future = self._coming.get(wanted)
        if future is None:
            future = self._coming[wanted] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.exception())  # whoever wanted it may be gone
            if not self._next:
                asyncio.get_running_loop().call_soon(self._start)
            self._next.append(wanted)
        return await asyncio.shield(future)

    def _start(self) -> None:
        batch, self._next = self._next, []
        load = asyncio.create_task(self._load(batch))
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)

    async def _load(self, batch: Sequence[Wanted]) -> None:
        try:
            left = await self._from_host(batch)
            if left:
                stored = await read_states(self._database, left)
                await asyncio.gather(*(self._bring(*pair) for pair in zip(left, stored, strict=True)))
        except Exception as error:
            for wanted in batch:
                self._end(wanted, error)

    async def _from_host(self, batch: Sequence[Wanted]) -> list[Wanted]:
        """Brings what host memory has; the rest."""
        left = []
        for wanted in batch:
            found = None if wanted.task is None else self._states.in_host((wanted.tenant, wanted.task))
            if found is None or wanted.task is None:
                left.append(wanted)
                continue
            self._keep(wanted, (wanted.tenant, wanted.task), await asyncio.to_thread(moved, found, self._device))
        return left

    async def _bring(self, wanted: Wanted, stored: StoredState | KshotError) -> None:
        try:
            if isinstance(stored, KshotError):
                raise stored
            key = (wanted.tenant, stored.task)
            adapted = self._states.look(key) or await self._adapted(stored)
        except Damaged as error:
            return self._end(wanted, await self._reason(wanted, error))
        except Exception as error:
            return self._end(wanted, error)
        self._keep(wanted, key, adapted)

    async def _adapted(self, stored: StoredState) -> Adapted:
        if stored.state is not None and self._device.type == "cpu":
            return _parsed(stored, stored.state, self._device)  # small: a thread would cost more
        return await asyncio.to_thread(self._fetched, stored)

    async def _reason(self, wanted: Wanted, damaged: Damaged) -> Exception:
        """Why a state is not what its row says: the model may have been deleted, or have gone on, in this moment."""
        try:
            (again,) = await read_states(self._database, [wanted])
        except Exception as error:
            return error
        return again if isinstance(again, KshotError) else damaged

    def _fetched(self, stored: StoredState) -> Adapted:
        blob = stored.state
        if blob is None:
            assert stored.object_key is not None
            try:
                blob = self._objects.get(stored.object_key)
            except KshotError as error:
                raise Damaged(f"the stored state of {stored.model} is gone") from error
        return _parsed(stored, blob, self._device)

    def _keep(self, wanted: Wanted, key: StateKey, adapted: Adapted) -> None:
        self._states.put(key, adapted)
        self._end(wanted, adapted)

    def _end(self, wanted: Wanted, outcome: Adapted | Exception) -> None:
        future = self._coming.pop(wanted, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _parsed(stored: StoredState, blob: bytes, device: torch.device) -> Adapted:
    if sha256(blob) != stored.object_sha256:
        raise Damaged(f"the stored state of {stored.model} differs from what was written")
    state = own_memory(load_state(blob, device))
    return Adapted(stored.checkpoint, stored.learner, stored.classes, stored.targets, stored.input_shape, state)
