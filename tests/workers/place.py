"""A worker's parts on real Postgres and Valkey, and work in every state of its life."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload, SupportSet
from kshot.contracts.wire import Inputs
from kshot.queue.work import WorkQueue
from kshot.storage import tasks
from kshot.storage.adapted_models import AdaptedModel, NewAdaptedModel, get_adapted_model, insert_adapted_model
from kshot.storage.objects import LocalObjects
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import Claim, NewTask
from standalone import EmbeddedServers
from tests.kshot.storage.claims import claim_these
from tests.workers.samples import blobs
from workers.batching import Limits
from workers.decoding import adapt_work
from workers.executing import solve
from workers.leases import Leases
from workers.models import Models
from workers.publishing import publish
from workers.settling import Settler
from workers.stack import Stack
from workers.work import Outcome


@dataclass(frozen=True)
class Place:
    """The parts that end claims, and a published checkpoint."""

    stack: Stack
    objects: LocalObjects
    models: Models
    leases: Leases
    settler: Settler
    checkpoint: Checkpoint
    checkpoint_id: str

    async def claimed(self) -> Claim:
        """A fresh task, claimed."""
        return await self.claim(await self.accepted())

    async def accepted(
        self,
        *,
        support: SupportSet | None = None,
        query: Inputs | None = None,
        asked: Inputs | None = None,
        payload: Payload | None = None,
        digest: str | None = None,
        **changes: Any,
    ) -> str:
        """A fresh task, queued; its id. A payload with candidates leaves the checkpoint open. ``asked``: a query in a
        column of its own, beside the support. ``digest`` of the support and other ``changes`` of its model."""
        payload = payload or Payload(support or blobs(0), query)
        support, named = payload.support, not payload.candidates
        assert support is not None
        task_id, model_id = new_id("task"), new_id("am")
        model = NewAdaptedModel(
            id=model_id, tenant=DEFAULT_TENANT, checkpoint=self.checkpoint_id if named else None,
            checkpoint_name="settled" if named else None, alias=None, learner="protonet" if named else None,
            options={}, task="classification", classes=support.classes, k_shot=[], n_support=4,
            input_shape=support.inputs.shape[1:], fingerprint=None, parent=None, metadata={}, ttl_s=None,
            task_id=task_id,
        )  # fmt: skip
        model = replace(model, support=digest, **changes)
        async with self.stack.database.begin() as connection:
            await insert_adapted_model(connection, model)
            body = payload.encode()
            own = None if asked is None else Payload(query=asked).encode()
            task = NewTask(task_id, model.tenant, model_id, model.checkpoint, model.learner, body, None, None, own)
            await tasks.insert_task(connection, task)
        return task_id

    async def claim(self, task_id: str, lease_s: float = 60) -> Claim:
        async with self.stack.database.begin() as connection:
            (claim,) = await claim_these(connection, self.stack.worker, lease_s, [task_id])
        self.leases.hold([claim])
        return claim

    async def taken_by_another(self, claim: Claim) -> Claim:
        """The lease passes, and another worker claims."""
        async with self.stack.database.begin() as connection:
            await tasks.heartbeat(connection, [claim], -1)
            (other,) = await claim_these(connection, "wrk_other", 60, [claim.task_id])
        return other

    def solved(self, claim: Claim) -> list[Outcome]:
        return solve(self.checkpoint, [adapt_work(claim)])

    async def model(self, claim: Claim) -> AdaptedModel:
        async with self.stack.database.connect() as connection:
            return await get_adapted_model(connection, claim.tenant, claim.adapted_model)

    async def row(self, task_id: str) -> Any:
        async with self.stack.database.connect() as connection:
            statement = text("SELECT status, attempt, payload, query, failure FROM tasks WHERE id = :id")
            return (await connection.execute(statement, {"id": task_id})).one()

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.stack.database.begin() as connection:
            await connection.execute(text(statement), values)

    async def scalar(self, statement: str, **values: Any) -> Any:
        async with self.stack.database.connect() as connection:
            return await connection.scalar(text(statement), values)

    async def states(self, claim: Claim) -> int:
        """How many states of the claim's model lie anywhere."""
        async with self.stack.database.connect() as connection:
            of_model = "FROM tasks WHERE adapted_model_id = :id"
            in_rows = text(f"SELECT count(state) FROM results WHERE task_id IN (SELECT id {of_model})")
            tasks_of_it = await connection.scalars(text(f"SELECT id {of_model}"), {"id": claim.adapted_model})
            found = int(await connection.scalar(in_rows, {"id": claim.adapted_model}) or 0)
            return found + sum(len(self.state_files(task)) for task in tasks_of_it)

    def state_files(self, task_id: str) -> list[str]:
        """The names of the states of a task's attempts in the object store."""
        return sorted(path.name for path in (self.objects._folder / "states").glob(f"*{task_id}*"))

    async def results(self, claim: Claim) -> int:
        return int(await self.scalar("SELECT count(*) FROM results WHERE task_id = :id", id=claim.task_id))


@asynccontextmanager
async def open_place(
    servers: EmbeddedServers, database: AsyncEngine, folder: Path, checkpoint: Checkpoint
) -> AsyncIterator[Place]:
    """A place whose objects lie below ``folder``; nothing open is left in the database from before."""
    objects, device = LocalObjects(folder / "objects"), torch.device("cpu")
    save_checkpoint(folder / "protonet", checkpoint)
    checkpoint_id = await publish(database, objects, folder / "protonet")
    async with database.begin() as connection:
        await connection.execute(text("UPDATE tasks SET status = 'cancelled' WHERE status IN ('queued', 'running')"))
    queue = WorkQueue(servers.redis_url, "wrk_me")
    stack = Stack("wrk_me", device, 60, Limits(64, 256), database, queue, objects)
    models, leases = Models(database, objects, device), Leases(database, 60)
    yield Place(stack, objects, models, leases, Settler(stack, models, leases), checkpoint, checkpoint_id)
    await queue.close()
