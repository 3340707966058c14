"""The measurements: capacity, a quiet stretch, four times the capacity, the time until all is quiet again; fairness."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.overload.heeding import heeding
from benchmarks.overload.memory import private_mib, watch
from benchmarks.serving.measuring import Load, Requests, closed_loop, open_loop
from benchmarks.serving.mixed import new_key, traffic

MODERATE = 0.5
"""Of capacity: where the p99 of a service that is not overloaded is measured."""
TENANTS = 10
LOUD = 50
_CALLERS = 64
_BURST_S = 4.0
_STARTS = 2**20
"""Requests of different stretches have numbers so far apart: none repeats another's."""


@dataclass(frozen=True)
class Plan:
    """Seconds of each stretch, and how many times all of it is done."""

    capacity_s: float = 8
    quiet_s: float = 12
    overload_s: float = 30
    factor: float = 4
    recovery_s: int = 8
    fairness_s: float = 12
    rounds: int = 2


@dataclass(frozen=True)
class Overload:
    """One round. Memory in MiB by role; ``recovered_s``: the end of the last second after the overload in which a call
    was refused or the 95th percentile was above the quiet p99. ``told``: least and most Retry-After of the refusals."""

    capacity: float
    quiet: Load
    offered: float
    overload: Load
    told: tuple[float, float]
    retry_afters: int
    recovered_s: int
    after: Load
    memory: dict[str, dict[str, float]]

    @property
    def ratio(self) -> float:
        """The p99 of what was accepted against the quiet one."""
        return self.overload.p99 / self.quiet.p99


@dataclass(frozen=True)
class Fairness:
    """One round. Of nine tenants, each at its share: without the tenth, and while he asks for 50 shares."""

    share: float
    without: Load
    beside: Load
    loud: Load

    @property
    def ratio(self) -> float:
        """How much the tenth raises the p99 of the nine."""
        return self.beside.p99 / self.without.p99


class Service:
    """The service that is loaded, and fresh requests for every stretch."""

    def __init__(self, url: str, keys: Sequence[str], plan: Plan, first: int) -> None:
        self.url, self.keys, self.plan = url, keys, plan
        self._next = first

    async def requests(self, keys: Sequence[str]) -> Requests:
        """The mixed traffic of these tenants."""
        mix, start = await traffic(self.url, keys), self._next
        self._next += _STARTS
        return lambda number: mix(start + number)

    async def capacity(self) -> float:
        """Calls answered a second, with as many callers as may wait."""
        requests = await self.requests(self.keys)
        load = await closed_loop(self.url, requests, _CALLERS, self.plan.capacity_s, 2.0)
        print(f"capacity: {load.line()}", flush=True)
        return load.per_second


async def new_service(url: str, key: str, plan: Plan, first: int) -> Service:
    """With a key of each tenant. ``first``: the number of the first request; no later run may say the same."""
    keys = [await new_key(url, key, f"bench-{number}") for number in range(TENANTS)]
    return Service(url, keys, plan, first)


async def overload(service: Service) -> Overload:
    """Capacity, a burst, a quiet stretch, the overload, and the time after it. What a process keeps of the first
    overload of its life, such as buffers of so many connections, is there after the burst.
    """
    plan, url = service.plan, service.url
    capacity = await service.capacity()
    await open_loop(url, await service.requests(service.keys), plan.factor * capacity, _BURST_S)
    quiet = await open_loop(url, await service.requests(service.keys), MODERATE * capacity, plan.quiet_s)
    print(f"quiet: {quiet.line()}", flush=True)
    before, during, told = private_mib(url), dict[str, float](), list[float]()
    watching = asyncio.create_task(watch(url, during))
    requests, offered = await service.requests(service.keys), plan.factor * capacity
    load = await open_loop(url, requests, offered, plan.overload_s, 0.0, heeding(told))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    print(f"overload: {load.line()}", flush=True)
    recovered_s, after = await _recovery(service, MODERATE * capacity, quiet)
    memory = {"before": before, "during": during, "after": private_mib(url)}
    span = (min(told, default=0.0), max(told, default=0.0))
    return Overload(capacity, quiet, offered, load, span, len(told), recovered_s, after, memory)


async def fairness(service: Service, capacity: float) -> Fairness:
    """Nine tenants at a tenth of the moderate load each, without the tenth tenant and beside him."""
    *quiet, loud = service.keys
    url, share, seconds = service.url, MODERATE * capacity / TENANTS, service.plan.fairness_s
    alone, few, many = [await service.requests(keys) for keys in (quiet, quiet, [loud])]
    without = await open_loop(url, alone, share * len(quiet), seconds)
    beside, noise = await asyncio.gather(
        open_loop(url, few, share * len(quiet), seconds), open_loop(url, many, LOUD * share, seconds)
    )
    for what, load in (("without", without), ("beside", beside), ("the loud one", noise)):
        print(f"{what}: {load.line()}", flush=True)
    return Fairness(share, without, beside, noise)


async def _recovery(service: Service, rate: float, quiet: Load) -> tuple[int, Load]:
    """The quiet load again, second by second; and the last of these seconds."""
    requests, last = await service.requests(service.keys), 0
    for second in range(1, service.plan.recovery_s + 1):
        load = await open_loop(service.url, _from(requests, second), rate, 1.0, 0.0)
        print(f"second {second} after: {load.line()}", flush=True)
        if load.failed or load.p95 > 2 * quiet.p95:  # of one second, which may be a bad one at any time
            last = second
    print(f"recovered after {last} s", flush=True)
    return last, load


def _from(requests: Requests, second: int) -> Requests:
    return lambda number: requests(second * 10_000 + number)
