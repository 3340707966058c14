"""Checkpoints and adapted states in memory. A checkpoint never changes, nor does the state that a task made (a model
that follows an alias goes over to another task's), so nothing cached is ever stale."""

import asyncio
from collections.abc import Iterable

import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, parse_checkpoint
from kshot.contracts.errors import Conflict, KshotError, NotFound
from kshot.learners.state import load_state
from kshot.storage.adapted_models import AdaptedModel, get_adapted_model
from kshot.storage.checkpoints import StoredCheckpoint, get_checkpoint
from kshot.storage.objects import ObjectStore, sha256
from kshot.storage.results import StoredState, get_state
from workers.lru import ByteLru
from workers.work import Adapted

_CHECKPOINT_BYTES = 4 << 30
_STATE_BYTES = 1 << 30
_LOADS_AT_ONCE = 4


class Damaged(Exception):
    """A stored object is not what was stored. The caller reads of an internal error; the log says whose."""


class Models:
    """What is computed with, read from the registry and the object store on a miss."""

    def __init__(self, database: AsyncEngine, objects: ObjectStore, device: torch.device) -> None:
        self.device = device
        self._database = database
        self._objects = objects
        self._checkpoints: ByteLru[str, Checkpoint] = ByteLru(_CHECKPOINT_BYTES)
        self._adapted: ByteLru[tuple[str, str], Adapted] = ByteLru(_STATE_BYTES)
        self._loading_checkpoint = asyncio.Lock()
        self._loading_states = asyncio.Semaphore(_LOADS_AT_ONCE)

    async def checkpoint(self, id: str) -> Checkpoint:
        """A registered checkpoint, on the device. Raises NotFound, Damaged; OSError where the store cannot be read."""
        async with self._loading_checkpoint:
            found = self._checkpoints.get(id)
            if found is None:
                found = await self._load_checkpoint(id)
                self._checkpoints.put(id, found, _size(found))
        return found

    async def adapted(self, tenant: str, id: str, task_id: str | None = None) -> Adapted:
        """A state of a tenant's adapted model: the one a task made, or else the one that answers now.

        Raises NotFound (another tenant's too), Expired, Conflict, Damaged, OSError.
        """
        if task_id is None:
            async with self._database.connect() as connection:
                task_id = (await get_adapted_model(connection, tenant, id)).task_id
        found = self._adapted.get((tenant, task_id))
        if found is None:
            async with self._loading_states:
                found = await self._load_adapted(tenant, id, task_id)
            self.keep(tenant, task_id, found)
        return found

    def keep(self, tenant: str, task_id: str, adapted: Adapted) -> None:
        """Cache a state that was just made: the first prediction need not read it back."""
        tensors = adapted.state.tensors.values()
        self._adapted.put((tenant, task_id), adapted, _bytes(tensors))

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

    async def _load_adapted(self, tenant: str, id: str, task_id: str) -> Adapted:
        async with self._database.connect() as connection:
            model = await get_adapted_model(connection, tenant, id)
            stored = await get_state(connection, id, task_id)
        if stored is None:
            raise Conflict("this adapted model is not ready; ask GET /v1/adapted-models/{id} for its status")
        if stored.state is not None:
            return _adapted(model, stored, stored.state, self.device)
        assert stored.object_key is not None
        try:
            blob = await asyncio.to_thread(self._objects.get, stored.object_key)
        except KshotError as error:
            raise Damaged(f"the stored state of {id} is gone") from error
        return await asyncio.to_thread(_adapted, model, stored, blob, self.device)


def _adapted(model: AdaptedModel, stored: StoredState, blob: bytes, device: torch.device) -> Adapted:
    if sha256(blob) != stored.object_sha256:
        raise Damaged(f"the stored state of {model.id} differs from what was written")
    state = load_state(blob, device)
    return Adapted(stored.checkpoint, stored.learner, model.classes, model.targets, model.input_shape, state)


def _size(checkpoint: Checkpoint) -> int:
    encoder = checkpoint.encoder
    return _bytes([*encoder.parameters(), *encoder.buffers(), *checkpoint.head.values()])


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
