"""What 10, 100 and 1,000 workers would do, on paper: from the CPU seconds and bytes that a request costs here.

Measured here: CPU milliseconds a request of the API, the worker, Postgres and Valkey under 64 callers, bytes over the
wire, and bytes that Postgres writes to its log. Everything else is arithmetic on these assumptions, which the page
repeats: a worker and an API process have a core each, Postgres has 32 cores and 1 GB/s of log, Valkey one core, the
network 25 Gbit/s.
"""

import asyncio
import shlex
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis
import uvloop

from benchmarks.own_service import service_on
from benchmarks.serving.load import requests_of
from benchmarks.serving.measuring import closed_loop

POSTGRES_CORES = 32
LOG_BYTES_A_SECOND = 1e9
NETWORK_BYTES_A_SECOND = 25e9 / 8
WORKERS = (10, 100, 1000)
WORKLOADS = ("vectors-adapt", "vectors-adapt-binary", "predict")
_CALLERS = 64


@dataclass(frozen=True)
class Cost:
    """Of one request. ``cpu_ms``: by role; ``body``, ``log``, ``queue``: bytes over HTTP, to Postgres' log, and in and
    out of Valkey."""

    workload: str
    cpu_ms: dict[str, float]
    body: float
    log: float
    queue: float


@dataclass(frozen=True)
class Cluster:
    """``limit``: requests a second that each part allows; the smallest decides."""

    workload: str
    workers: int
    api_processes: int
    limit: dict[str, float]

    @property
    def bottleneck(self) -> str:
        return min(self.limit, key=lambda part: self.limit[part])


def measure(folder: Path, key: str, workload: str, seconds: float) -> list[Cost]:
    """One load on a service of its own in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with service_on(folder, KSHOT_ADMIN_KEY=key) as url:
        urls = _urls(folder / "home" / "env")
        requests = uvloop.run(requests_of(workload, url, key))
        before = asyncio.run(_written(urls["DATABASE_URL"])), _moved(urls["REDIS_URL"])
        load = uvloop.run(closed_loop(url, requests, _CALLERS, seconds, warm_up=0))
        after = asyncio.run(_written(urls["DATABASE_URL"])), _moved(urls["REDIS_URL"])
    written, moved = ((after[i] - before[i]) / load.answered for i in range(2))
    return [Cost(workload, load.cpu_ms, len(requests(0)), written, moved)]


def clusters(cost: Cost) -> list[Cluster]:
    """As many API processes as keep the workers busy, and what each part allows then."""
    return [_cluster(cost, workers) for workers in WORKERS]


def _cluster(cost: Cost, workers: int) -> Cluster:
    cpu = cost.cpu_ms
    processes = max(1, round(workers * cpu["API"] / cpu["worker"]))
    limit = {
        "workers": workers * 1000 / cpu["worker"],
        "API": processes * 1000 / cpu["API"],
        "Postgres CPU": POSTGRES_CORES * 1000 / cpu["Postgres"],
        "Postgres log": LOG_BYTES_A_SECOND / max(cost.log, 1),
        "Valkey": 1000 / cpu["Valkey"],
        "network": NETWORK_BYTES_A_SECOND / (cost.body + cost.queue),
    }
    return Cluster(cost.workload, workers, processes, limit)


def _urls(file: Path) -> dict[str, str]:
    """The URLs of a running stack, as `standalone` leaves them."""
    return dict(shlex.split(line)[0].split("=", 1) for line in file.read_text().splitlines())


async def _written(url: str) -> float:
    """Bytes in Postgres' log so far."""
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    try:
        return float(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
    finally:
        await connection.close()


def _moved(url: str) -> float:
    """Bytes in and out of Valkey so far."""
    with redis.Redis.from_url(url) as connection:
        said = connection.info("stats")
    return float(said["total_net_input_bytes"] + said["total_net_output_bytes"])
