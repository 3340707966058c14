"""One, two, four workers behind one API, each computing with one thread, under 32 callers."""

import os
from dataclasses import dataclass

import uvloop

from benchmarks.own_service import own_service
from benchmarks.serving.load import requests_of
from benchmarks.serving.measuring import Load, closed_loop

COUNTS = (1, 2, 4)
WORKLOADS = ("glyphs-maml", "vectors-adapt-binary")
_CALLERS = 32


@dataclass(frozen=True)
class Crew:
    """``workload`` under a closed loop; ``cores``: of the machine, shared by everything."""

    workers: int
    workload: str
    cores: int
    load: Load


def measure(workers: int, key: str, workload: str, seconds: float) -> list[Crew]:
    """A service of its own with so many workers."""
    with own_service(KSHOT_ADMIN_KEY=key, KSHOT_WORKERS=str(workers), KSHOT_THREADS="1") as url:
        requests = uvloop.run(requests_of(workload, url, key))
        load = uvloop.run(closed_loop(url, requests, _CALLERS, seconds))
    return [Crew(workers, workload, os.cpu_count() or 1, load)]
