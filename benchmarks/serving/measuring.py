"""Closed and open loops of callers, and what they saw: latencies, throughput, failures, CPU seconds by process."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.serving.connection import Connection, OrdinaryConnection, connect
from benchmarks.serving.processes import cpu_seconds

Requests = Callable[[int], bytes]
"""The i-th request as bytes; no two say the same where that matters."""
Connector = Callable[[str], Awaitable[Connection | OrdinaryConnection]]


@dataclass(frozen=True)
class Load:
    """One stretch of load. Latencies in milliseconds, of answers with a 2xx status that came within the stretch."""

    seconds: float
    answered: int
    failed: dict[int, int]
    p50: float
    p95: float
    p99: float
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """Per answered request, by role of process."""

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def line(self) -> str:
        """For people."""
        cpu = " ".join(f"{role} {spent:.2f}" for role, spent in self.cpu_ms.items())
        return (
            f"{self.per_second:.1f}/s p50 {self.p50:.2f} p95 {self.p95:.2f} p99 {self.p99:.2f} ms, "
            f"{self.answered} answered, failed {self.failed or 'none'}; CPU ms a request: {cpu}"
        )


class _Stretch:
    """Latencies and failures between start and end; what comes before (warm-up) or after is not counted.

    Where nothing was answered by the end, the stretch lasts until the first answer: a median of nothing says nothing.
    """

    def __init__(self, warm_up: float, seconds: float) -> None:
        self.start = time.perf_counter() + warm_up
        self.end = self.start + seconds
        self.latencies: list[float] = []
        self.failed: Counter[int] = Counter()
        self.heard = asyncio.Event()

    def note(self, since: float, status: int) -> None:
        now = time.perf_counter()
        if now < self.start or self.is_over(now):
            return
        self.heard.set()
        self.end = max(self.end, now)
        if 200 <= status < 300:
            self.latencies.append((now - since) * 1000)
        else:
            self.failed[status] += 1

    def is_over(self, now: float) -> bool:
        return now > self.end and self.heard.is_set()

    def load(self, cpu: dict[str, float]) -> Load:
        ordered = sorted(self.latencies) or [float("nan")]
        n = max(1, len(self.latencies))
        cpu_ms = {role: spent * 1000 / n for role, spent in cpu.items() if spent > 0}
        p50, p95, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99))
        return Load(self.end - self.start, len(self.latencies), dict(self.failed), p50, p95, p99, cpu_ms)


async def closed_loop(
    url: str, requests: Requests, callers: int, seconds: float, warm_up: float = 1.0, connector: Connector = connect
) -> Load:
    """``callers`` callers, each with a connection of its own, each asking again as soon as it is answered."""
    connections = [await connector(url) for _ in range(callers)]
    stretch, numbers = _Stretch(warm_up, seconds), iter(range(10**9))

    async def call(connection: Connection | OrdinaryConnection) -> None:
        while not stretch.is_over(time.perf_counter()):
            request = requests(next(numbers))
            since = time.perf_counter()
            answer = await connection.ask(request)
            stretch.note(since, answer.status)
            if answer.status == 0:
                await asyncio.sleep(0.1)
                connection = await connector(url)

    spending = asyncio.create_task(_cpu(url, stretch))
    await asyncio.gather(*(call(connection) for connection in connections))
    cpu = await spending
    for connection in connections:
        connection.close()
    return stretch.load(cpu)


async def open_loop(
    url: str, requests: Requests, rate: float, seconds: float, warm_up: float = 1.0, connector: Connector = connect
) -> Load:
    """``rate`` requests a second at random moments (Poisson), whether or not earlier ones were answered.

    Latency counts from the moment the request was due, so a server that stalls cannot hide it.
    """
    free: list[Connection | OrdinaryConnection] = []
    stretch, dice = _Stretch(warm_up, seconds), random.Random(0)
    asked: set[asyncio.Task[None]] = set()

    async def call(number: int, due: float) -> None:
        connection = free.pop() if free else await connector(url)
        answer = await connection.ask(requests(number))
        stretch.note(due, answer.status)
        if answer.status:
            free.append(connection)

    async def send() -> None:
        due, number = time.perf_counter(), 0
        while (due := due + dice.expovariate(rate)) < stretch.end or not (asked or stretch.is_over(due)):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.add(task := asyncio.create_task(call(number, due)))
            task.add_done_callback(asked.discard)
            number += 1

    spending = asyncio.create_task(_cpu(url, stretch))
    await send()
    await asyncio.gather(*asked)
    cpu = await spending
    for connection in free:
        connection.close()
    return stretch.load(cpu)


async def _cpu(url: str, stretch: _Stretch) -> dict[str, float]:
    """CPU seconds spent in the stretch, by role."""
    await asyncio.sleep(stretch.start - time.perf_counter())
    before = cpu_seconds(url)
    await asyncio.sleep(stretch.end - time.perf_counter())
    await stretch.heard.wait()
    after = cpu_seconds(url)
    return {role: spent - before.get(role, 0.0) for role, spent in after.items()}
