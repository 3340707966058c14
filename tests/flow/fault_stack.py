"""Real servers, real workers, and work put in the way the service does it: for tests that break one of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import EncoderSpec, VectorInput
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import (
    PAYLOAD_VERSION,
    AnswerOptions,
    LearnerOptions,
    Payload,
    PredictCall,
    Reply,
    SupportSet,
)
from kshot.queue.front import FrontQueue
from kshot.storage.adapted_models import NewAdaptedModel, insert_adapted_model
from kshot.storage.checkpoints import resolve
from kshot.storage.database import open_database
from kshot.storage.tables import DEFAULT_TENANT, tasks
from kshot.storage.tasks import NewTask, insert_task
from standalone import EmbeddedServers
from tests.flow.http_stack import CHECKOUT, migrate_and_publish, write_checkpoint

LEASE_S = 2.0
DEFAULTS = LearnerOptions()
WIDTH = 8


def write_checkpoints(root: Path) -> Path:
    """Small untrained checkpoints: ``plain`` and ``near`` (closed form, any width) and ``steps`` (gradient learner)."""
    write_checkpoint(
        root, "plain", VectorInput(), EncoderSpec(name="identity"), "ridge", ("classification", "regression")
    )
    write_checkpoint(root, "near", VectorInput(), EncoderSpec(name="identity"), "protonet", ("classification",))
    mlp = EncoderSpec(name="mlp", options={"hidden": [512, 512]})
    write_checkpoint(root, "steps", VectorInput(width=WIDTH), mlp, "maml", ("classification",))
    return root


def blobs(seed: int, n_way: int = 2, k_shot: int = 3, width: int = WIDTH) -> SupportSet:
    """Classes around random centres; other seeds, other centres and labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_way, width)) * 3
    targets = np.repeat(np.arange(n_way), k_shot)
    inputs = (centres[targets] + rng.normal(size=(len(targets), width))).astype(np.float32)
    return SupportSet("classification", inputs, targets, tuple(f"s{seed}-{k}" for k in range(n_way)))


def long_work(seed: int = 0) -> tuple[SupportSet, LearnerOptions]:
    """A support set for ``steps`` that keeps a worker busy for seconds."""
    return blobs(seed, k_shot=1000), LearnerOptions(inner_steps=50, inner_lr=1e-3)


@dataclass(frozen=True)
class Stack:
    """Servers with migrated tables and published checkpoints, seen from where the service stands."""

    servers: EmbeddedServers
    database: AsyncEngine
    front: FrontQueue
    objects: Path

    async def submit(
        self,
        checkpoint: str,
        support: SupportSet,
        options: LearnerOptions = DEFAULTS,
        *,
        query: Any = None,
        payload: bytes | None = None,
        payload_version: int = PAYLOAD_VERSION,
        tenant: str = DEFAULT_TENANT,
        ring: bool = True,
    ) -> "Submitted":
        """Accept a task in one transaction, then ring: what the service does."""
        task_id, model_id = new_id("task"), new_id("am")
        async with self.database.begin() as connection:
            stored, alias = await resolve(connection, checkpoint)
            learner = options.learner or stored.manifest.learner.name
            shape = support.inputs.shape[1:]
            model = NewAdaptedModel(
                id=model_id, tenant=tenant, checkpoint=stored.id, checkpoint_name=checkpoint, alias=alias,
                learner=learner, options=options.model_dump(), task=support.task, classes=support.classes,
                k_shot=[], n_support=len(support), input_shape=shape,
                fingerprint=None, parent=None, metadata={}, ttl_s=None, task_id=task_id,
            )  # fmt: skip
            await insert_adapted_model(connection, model)
            body = payload or Payload(support, query, options).encode()
            task = NewTask(task_id, tenant, model_id, stored.id, learner, body, self.front.reply_to, "req_test")
            await insert_task(connection, task)
            said = update(tasks).where(tasks.c.id == task_id).values(payload_version=payload_version)
            await connection.execute(said)
        if ring:
            await self.front.ring(task_id)
        return Submitted(task_id, model_id, tenant, stored.id)

    async def predict(self, model: "Submitted", query: Any, *, wait_s: float = 20) -> Reply:
        """Ask a stored model."""
        call = PredictCall(
            id=new_id("pred"), tenant=model.tenant, checkpoint=model.checkpoint_id, model=model.model_id,
            reply_to=self.front.reply_to, deadline_ms=int(wait_s * 1000),
        )  # fmt: skip
        return await self.call(call, Payload(query=query, answer=AnswerOptions(wanted=("labels", "logits"))))

    async def call(self, call: PredictCall, payload: Payload) -> Reply:
        future = self.front.expect(call.id)
        assert await self.front.send(call, payload.encode())
        return await asyncio.wait_for(future, call.deadline_ms / 1000)

    async def row(self, task: "Submitted") -> Any:
        async with self.database.connect() as connection:
            statement = text("SELECT status, attempt, failure, worker FROM tasks WHERE id = :id")
            return (await connection.execute(statement, {"id": task.task_id})).one()

    async def scalar(self, statement: str, **values: Any) -> Any:
        async with self.database.connect() as connection:
            return await connection.scalar(text(statement), values)

    async def until(self, task: "Submitted", *statuses: str, seconds: float = 120) -> Any:
        """The row once its status is one of these."""
        deadline = time.monotonic() + seconds
        while (row := await self.row(task)).status not in statuses:
            assert time.monotonic() < deadline, f"still {row}"
            await asyncio.sleep(0.02)
        return row

    async def until_locked_out(self, seconds: float = 120) -> None:
        """Until somebody waits for what another transaction holds."""
        deadline = time.monotonic() + seconds
        while not await self.scalar("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert time.monotonic() < deadline, "nobody waits"
            await asyncio.sleep(0.05)

    async def results(self, task: "Submitted") -> int:
        return int(await self.scalar("SELECT count(*) FROM results WHERE task_id = :id", id=task.task_id))

    async def forget_open(self) -> None:
        """Leave nothing to do for the tests that follow."""
        async with self.database.begin() as connection:
            await connection.execute(
                text("UPDATE tasks SET status = 'cancelled' WHERE status IN ('queued', 'running')")
            )

    def states(self, task: "Submitted") -> list[str]:
        """The files that attempts of this task left in the object store, unfinished ones too."""
        return sorted(path.name for path in (self.objects / "states").glob(f"*{task.task_id}*"))

    @contextmanager
    def worker(self, *, module: str = "workers", **env: str) -> Iterator["WorkerProcess"]:
        """A worker process, ready; killed at the end unless it ended before."""
        process = WorkerProcess(self, env, module)
        try:
            process.wait_ready()
            yield process
        finally:
            process.end()


@dataclass(frozen=True)
class Submitted:
    task_id: str
    model_id: str
    tenant: str
    checkpoint_id: str


class WorkerProcess:
    """``python -m workers adapt`` and its log."""

    def __init__(self, stack: Stack, env: dict[str, str], module: str = "workers") -> None:
        environ = {**os.environ, **environment(stack.servers, stack.objects), "KSHOT_LEASE_S": str(LEASE_S), **env}
        self.log = stack.objects.parent / f"worker-{new_id('wrk')}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "adapt"], cwd=CHECKOUT, env=environ, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def id(self) -> str:
        """Its worker id, from its log."""
        events = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return str(next(event["worker"] for event in events if event["event"] == "worker_ready"))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for(self, event: str, seconds: float = 120) -> None:
        """Until the log says so."""
        deadline = time.monotonic() + seconds
        while f'"{event}"' not in self.log.read_text():
            assert self.process.poll() is None, f"the worker ended:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"no {event}:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.02)

    async def says(self, event: str, seconds: float = 120) -> None:
        """`wait_for`, while the test's own loops go on."""
        await asyncio.to_thread(self.wait_for, event, seconds)

    def wait_ready(self) -> None:
        self.wait_for("worker_ready")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def environment(servers: EmbeddedServers, objects: Path) -> dict[str, str]:
    return {**servers.environ, "KSHOT_OBJECTS": str(objects), "KSHOT_DEVICE": "cpu", "KSHOT_THREADS": "1"}


def prepare(servers: EmbeddedServers, folder: Path) -> Path:
    """Migrate, publish; returns the object store's folder."""
    objects = folder / "objects"
    migrate_and_publish(environment(servers, objects), write_checkpoints(folder / "checkpoints"))
    return objects


@asynccontextmanager
async def open_stack(servers: EmbeddedServers, objects: Path) -> AsyncIterator[Stack]:
    """The service's side of the queue and the database, for one test."""
    database = open_database(servers.database_url)
    front = FrontQueue(servers.redis_url)
    await front.start()
    try:
        yield Stack(servers, database, front, objects)
    finally:
        await front.stop()
        await database.dispose()


async def eventually(check: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
