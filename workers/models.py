"""Checkpoints and adapted states in memory. A checkpoint never changes, nor does the state that a task made (a model
that follows an alias goes over to another task's), so nothing cached is ever stale."""

import asyncio
from collections.abc import Iterable

import structlog
import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, parse_checkpoint
from kshot.contracts.errors import KshotError, NotFound
from kshot.contracts.tasks import Payload, SupportSet
from kshot.contracts.worker_stats import CacheCount, Tier
from kshot.storage.checkpoints import StoredCheckpoint, get_checkpoint
from kshot.storage.objects import ObjectStore
from kshot.storage.results import get_support
from kshot.storage.states import Wanted
from workers.cold import ColdStates, Damaged
from workers.embeddings import EmbeddingCache
from workers.lru import ByteLru
from workers.states import States
from workers.steps import Steps
from workers.work import Adapted

_CHECKPOINT_BYTES = 4 << 30
_STATE_BYTES = 1 << 30
_STATES_PER_EMBEDDINGS = 4
_STATES_PER_SUPPORTS = 8

_log = structlog.get_logger()


class Models:
    """What is computed with, read from the registry and the object store on a miss. ``state_bytes``: memory for adapted
    states; a quarter of it comes beside that for embeddings, and an eighth for support sets that answers refer to."""

    def __init__(
        self, database: AsyncEngine, objects: ObjectStore, device: torch.device, state_bytes: int = _STATE_BYTES
    ) -> None:
        self.device = device
        self._database = database
        self._objects = objects
        self._checkpoints: ByteLru[str, Checkpoint] = ByteLru(_CHECKPOINT_BYTES)
        self._loading_checkpoint = asyncio.Lock()
        self._expected: set[str] = set()
        self._loads = Steps()
        self._embeddings = EmbeddingCache(state_bytes // _STATES_PER_EMBEDDINGS)
        self._supports: ByteLru[tuple[str, str], SupportSet] = ByteLru(state_bytes // _STATES_PER_SUPPORTS)
        self._states = States(device, state_bytes)
        self._cold = ColdStates(database, objects, device, self._states)

    async def checkpoint(self, id: str) -> Checkpoint:
        """A registered checkpoint, on the device. Raises NotFound, Damaged; OSError where the store cannot be read."""
        found = self._checkpoints.get(id)
        if found is not None:
            return found
        async with self._loading_checkpoint:
            found = self._checkpoints.peek(id)
            if found is None:
                found = self._embeddings.around(id, await self._load_checkpoint(id))
                self._checkpoints.put(id, found, _size(found))
        return found

    def expect(self, id: str) -> None:
        """Work that needs a checkpoint waits: begin to load it, while other work is computed. What goes wrong hears
        whoever asks for it."""
        if id not in self._expected and self._checkpoints.peek(id) is None:
            self._expected.add(id)
            self._loads.start(self._load_ahead(id))

    async def _load_ahead(self, id: str) -> None:
        try:
            await self.checkpoint(id)
        except Exception as error:
            _log.info("not_loaded_ahead", checkpoint=id, error=type(error).__name__)
        finally:
            self._expected.discard(id)

    async def adapted(self, tenant: str, id: str, task_id: str | None = None) -> Adapted:
        """A state of a tenant's adapted model: the one a task made, or else the one that answers now.

        Raises NotFound (another tenant's too), Expired, Conflict, Damaged, OSError.
        """
        found = None if task_id is None else self._states.get((tenant, task_id))
        return found or await self._cold.read(Wanted(tenant, id, task_id))

    async def support(self, tenant: str, id: str) -> SupportSet:
        """The examples of a tenant's adapted model, in the order they were sent; these never change.

        Raises NotFound (another tenant's too), Expired, Conflict where they are no longer stored.
        """
        found = self._supports.get((tenant, id))
        if found is None:
            async with self._database.connect() as connection:
                payload = await get_support(connection, tenant, id)
            found = (await asyncio.to_thread(Payload.decode, payload)).support
            assert found is not None
            self._supports.put((tenant, id), found, len(payload))
        return found

    def keep(self, tenant: str, task_id: str, adapted: Adapted) -> None:
        """Cache a state that was just made: the first prediction need not read it back."""
        self._states.put((tenant, task_id), adapted)

    def counted(self) -> list[CacheCount]:
        """How each cache does."""
        tier: Tier = "host" if self.device.type == "cpu" else "device"
        loaded = self._checkpoints.counted("checkpoints", tier)
        supports = self._supports.counted("supports", "host")
        return [*self._states.counted(), self._embeddings.counted(), supports, loaded]

    async def _load_checkpoint(self, id: str) -> Checkpoint:
        async with self._database.connect() as connection:
            stored = await get_checkpoint(connection, id)
        manifest = stored.manifest.model_dump_json().encode()
        weights = await self._weights(stored)
        try:
            return await asyncio.to_thread(parse_checkpoint, manifest, weights, self.device)
        except KshotError as error:
            raise Damaged(f"checkpoint {id} cannot be loaded") from error

    async def _weights(self, stored: StoredCheckpoint) -> bytes:
        """Raises Damaged; Expired where the checkpoint was deleted in this very moment."""
        try:
            return await asyncio.to_thread(self._objects.get, stored.object_key)
        except NotFound as error:
            async with self._database.connect() as connection:
                await get_checkpoint(connection, stored.id)
            raise Damaged(f"the weights of checkpoint {stored.id} are gone") from error


def _size(checkpoint: Checkpoint) -> int:
    encoder = checkpoint.encoder
    return _bytes([*encoder.parameters(), *encoder.buffers(), *checkpoint.head.values()])


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
