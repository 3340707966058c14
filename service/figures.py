"""The figures of the whole installation: read from the database when they are asked for, so that whichever API process
answers has all of them."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from kshot.contracts.errors import Unavailable
from kshot.queue.streams import Away
from kshot.storage import system
from kshot.storage.objects import read_address
from service.state import State

_PATIENCE_S = 5.0
LATELY_S = 3600.0
"""How far back `kshot_failures_recent` counts."""


@dataclass(frozen=True)
class Disk:
    """Bytes of the file system that the object store's folder is on."""

    size: int
    free: int


@dataclass(frozen=True)
class Figures:
    """``alive_s``: a worker unseen for longer counts as gone. ``calls``: predictions that wait and that a worker has
    taken; None while Redis is away. ``failures``: of the last hour, by kind of object. ``disk``: None where objects lie
    in a bucket."""

    workers: list[system.SeenWorker]
    alive_s: float
    waiting: list[system.Waiting]
    calls: tuple[int, int] | None
    jobs: dict[str, int]
    open_jobs: list[system.OpenJob]
    failures: dict[system.Failing, int]
    disk: Disk | None

    def alive(self, kind: str) -> int:
        """How many workers or trainers are."""
        return sum(worker.kind == kind and worker.age_s <= self.alive_s for worker in self.workers)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest queued task that somebody waits for; 0 where there is none."""
        ages = (one.oldest_s for one in self.waiting if one.kind == "adapt" and one.status == "queued")
        return max(ages, default=0.0)


async def read_figures(state: State) -> Figures:
    """As of now. Raises Unavailable where the database does not answer within seconds."""
    try:
        async with asyncio.timeout(_PATIENCE_S), state.database.single() as connection:
            return Figures(
                workers=await system.seen_workers(connection),
                alive_s=state.settings.worker_seen_s,
                waiting=await system.open_tasks(connection),
                calls=await _calls(state),
                jobs=await system.count_jobs(connection),
                open_jobs=await system.open_jobs(connection),
                failures=await system.count_failures(connection, LATELY_S),
                disk=await asyncio.to_thread(_disk, state.settings.objects),
            )
    except TimeoutError:
        raise Unavailable("the database does not answer in time; try again", retry_after=2) from None


async def _calls(state: State) -> tuple[int, int] | None:
    try:
        return await state.queue.calls()
    except Away:
        return None


def _disk(objects: str) -> Disk | None:
    place = read_address(objects)
    if not isinstance(place, Path):
        return None
    usage = shutil.disk_usage(place)
    return Disk(size=usage.total, free=usage.free)
