"""Real servers and real trainers with meta-training jobs, for tests that break them; `benchmarks/job_faults.py` breaks
them more often."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.ids import new_id
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.jobs import JobSpec
from kshot.planning.plan import plan
from kshot.storage.checkpoints import get_checkpoint
from kshot.storage.database import open_database
from kshot.storage.datasets import insert_dataset
from kshot.storage.job_events import StoredEvent, list_events
from kshot.storage.jobs import NewJob, StoredJob, get_job, insert_job
from kshot.storage.tables import DEFAULT_TENANT
from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import CHECKOUT

LEASE_S = 2.0
_PATIENCE_S = 150.0
_LONGEST_PEACE_S = 3.0


@dataclass(frozen=True)
class JobStack:
    """Servers with migrated tables and an object store; trainers are started by whoever needs them."""

    servers: EmbeddedServers
    database: AsyncEngine
    folder: Path

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    async def submit(self, steps: int, name: str = "waves", **wanted: Any) -> str:
        """A job on sine waves, recorded as the service does it; returns its id."""
        dataset = DatasetManifest(
            id=new_id("ds"), name=new_id("ds").lower().replace("_", "-"), format="sinusoid", modality="vector",
            task="regression", width=1,
        )  # fmt: skip
        body = {"dataset": dataset.name, "name": name, "steps": steps, "evaluate": [], **wanted}
        request = NewJobRequest.model_validate(body)
        spec = JobSpec(
            job=new_id("job"),
            recipe=plan(request, dataset, None),
            dataset=dataset.id,
            dataset_name=dataset.name,
            workers=request.workers_per_job,
        )
        async with self.database.begin() as connection:
            await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=dataset)
            await insert_job(connection, NewJob(DEFAULT_TENANT, None, body, spec, None))
        return spec.job

    async def job(self, id: str) -> StoredJob:
        async with self.database.connect() as connection:
            return await get_job(connection, id)

    async def events(self, id: str) -> list[StoredEvent]:
        async with self.database.connect() as connection:
            return await list_events(connection, id, after=0, limit=100_000)

    async def until_cleared(self) -> None:
        """Until no job's progress is kept: what ended says so before its progress goes."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.kept():
            assert time.monotonic() < deadline, self.kept()
            await asyncio.sleep(0.05)

    async def until(self, id: str, *statuses: str, step: int = 0, attempt: int = 0) -> StoredJob:
        """The job once it has one of these statuses, and has come so far; patient as long as something happens."""
        seen, deadline = -1, 0.0
        while True:
            job = await self.job(id)
            if job.status in statuses and job.step >= step and job.attempt >= attempt:
                return job
            if job.last_seq != seen:
                seen, deadline = job.last_seq, time.monotonic() + _PATIENCE_S
            if job.is_finished or time.monotonic() > deadline:
                raise AssertionError(f"{job.status} at step {job.step} of attempt {job.attempt}: {job.failure}")
            await asyncio.sleep(0.02)

    async def weights(self, id: str) -> str:
        """The sha256 of the weights that a job made."""
        checkpoint = (await self.job(id)).checkpoint
        assert checkpoint is not None
        async with self.database.connect() as connection:
            stored = await get_checkpoint(connection, checkpoint)
        sha256 = stored.manifest.weights_sha256
        assert sha256 is not None and (self.objects / stored.object_key).is_file()
        return sha256

    def kept(self) -> list[str]:
        """What jobs have in the object store."""
        return sorted(path.name for path in (self.objects / "jobs").rglob("*") if path.is_file())

    @contextmanager
    def trainer(self, **environ: str) -> Iterator["TrainerProcess"]:
        """A trainer; killed at the end unless it ended before."""
        process = TrainerProcess(self, environ)
        try:
            yield process
        finally:
            process.kill()


class TrainerProcess:
    """``python -m workers trainer`` and its log."""

    def __init__(self, stack: JobStack, environ: dict[str, str]) -> None:
        own = {
            **stack.servers.environ,
            "KSHOT_OBJECTS": str(stack.objects),
            "KSHOT_LEASE_S": str(LEASE_S),
            "KSHOT_TRAINER_THREADS": "1",
            "KSHOT_DEVICE": "cpu",
        }
        self.log = stack.folder / f"trainer-{new_id('wrk')}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers", "trainer"],
                cwd=CHECKOUT,
                env={**os.environ, **own, **environ},
                stdout=log,
                stderr=log,
            )

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def children(self) -> list[psutil.Process]:
        """The processes that train."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in found if _trains(child)]

    async def child(self) -> psutil.Process:
        """The process that trains, once there is one."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := self.children()):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-4000:]
            await asyncio.sleep(0.02)
        return found[-1]

    async def says(self, event: str) -> dict[str, Any]:
        """The first line of the log about this event, once there is one."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := [line for line in self.said if line["event"] == event]):
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            await asyncio.sleep(0.02)
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _trains(process: psutil.Process) -> bool:
    try:
        return "kshot.training.job" in process.cmdline() and "leash.py" not in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@contextmanager
def migrated_servers(folder: Path | None = None) -> Iterator[EmbeddedServers]:
    """Servers of its own; with a folder, on data there that may be used again."""
    with embedded_servers() if folder is None else embedded_servers(folder / "home") as servers:
        environ = {**os.environ, **servers.environ}
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        subprocess.run(command, cwd=CHECKOUT, env=environ, check=True, capture_output=True)
        yield servers


@asynccontextmanager
async def job_stack(folder: Path, servers: EmbeddedServers) -> AsyncIterator[JobStack]:
    """These servers and an object store in the folder, for one event loop."""
    database = open_database(servers.database_url)
    try:
        yield JobStack(servers, database, folder)
    finally:
        await database.dispose()


@dataclass(frozen=True)
class Outcome:
    """``redone``: steps that each kill cost. ``interval``: steps between two saves."""

    weights: str
    kills: dict[str, int]
    attempts: int
    redone: list[int]
    interval: int
    seconds: float


async def run_in_peace(stack: JobStack, steps: int) -> Outcome:
    """One trainer, one attempt."""
    started = time.monotonic()
    job = await stack.submit(steps)
    with stack.trainer():
        await stack.until(job, "succeeded")
        await stack.until_cleared()
    return await _outcome(stack, job, {}, started)


async def run_with_kills(stack: JobStack, steps: int, kills: int, seed: int) -> Outcome:
    """Child and trainer are killed in turns, each at a random moment of its training, as long as there is a job."""
    rng, started = random.Random(seed), time.monotonic()
    job = await stack.submit(steps)
    done = {"child": 0, "trainer": 0}
    often = {"KSHOT_SAVE_S": "0.5"}
    trainer = TrainerProcess(stack, often)
    try:
        for kill in range(kills):
            if not await _until_training(stack, job, kill + 1):
                break
            await asyncio.sleep(rng.uniform(0, min(_LONGEST_PEACE_S, 0.01 * steps / (kills + 1))))
            if kill % 2:
                trainer.kill()
                trainer = TrainerProcess(stack, often)
            else:
                (await trainer.child()).kill()
            done["trainer" if kill % 2 else "child"] += 1
        await stack.until(job, "succeeded")
        await stack.until_cleared()
    finally:
        trainer.kill()
    return await _outcome(stack, job, done, started)


async def _until_training(stack: JobStack, id: str, attempt: int) -> bool:
    """Wait until this attempt trains: it has said how many steps there are. False where the job has ended before."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        events = await stack.events(id)
        if any(event.kind == "total" and event.attempt == attempt for event in events):
            return True
        if (await stack.job(id)).is_finished:
            return False
        await asyncio.sleep(0.02)
    raise AssertionError("training does not begin")


async def _outcome(stack: JobStack, id: str, kills: dict[str, int], started: float) -> Outcome:
    seconds = time.monotonic() - started
    job, events = await stack.job(id), await stack.events(id)
    assert job.status == "succeeded", job.failure
    reached, redone = 0, []
    for event in events:
        if event.kind == "started" and event.attempt > 1:
            saved = max([e.data["step"] for e in events if e.kind == "saved" and e.seq < event.seq], default=0)
            redone.append(max(0, reached - saved))
        reached = event.data.get("step", reached) if event.kind in ("step", "saved", "resumed") else reached
    interval = max(1, job.spec.recipe.training.steps // 20)
    return Outcome(await stack.weights(id), kills, job.attempt, redone, interval, seconds)
