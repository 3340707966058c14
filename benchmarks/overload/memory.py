"""Memory of a server's processes: what each has for itself, by role."""

import asyncio
from collections import Counter

import psutil  # type: ignore[import-untyped]

from benchmarks.serving.processes import server_processes

_LOOK_S = 2.0


def private_mib(url: str) -> dict[str, float]:
    """MiB that processes do not share with others, by role; Postgres' buffers are shared, and of one size."""
    held: Counter[str] = Counter()
    for pid, role in server_processes(url).items():
        try:
            memory = psutil.Process(pid).memory_info()
        except psutil.NoSuchProcess:
            continue
        held[role] += (memory.rss - memory.shared) / 2**20
    return dict(held)


async def watch(url: str, peak: dict[str, float]) -> None:
    """Keep the most of each role in ``peak``, until cancelled."""
    while True:
        for role, mib in (await asyncio.to_thread(private_mib, url)).items():
            peak[role] = max(peak.get(role, 0.0), mib)
        await asyncio.sleep(_LOOK_S)
