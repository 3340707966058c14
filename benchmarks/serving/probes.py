"""Which loads are put on which servers."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.own_service import own_service
from benchmarks.serving.connection import connect, connect_ordinary
from benchmarks.serving.load import requests_of
from benchmarks.serving.measuring import Load, Requests, closed_loop, open_loop
from benchmarks.serving.references.running import Reference, running
from benchmarks.serving.workloads import adapt_glyphs, adapt_json, adapt_tensors, predict_json

KSHOT = "kshot"
WRITTEN, TUNED = "scikit-learn, as written", "scikit-learn, tuned"
LOOP, LOOP_TUNED = "learn2learn, as written", "learn2learn, tuned"
NOTHING = "no-op route"
PEERS_MISSING = "learn2learn's server needs the peers' environment: python -m benchmarks.peers.environment DIR, --peers"


def sides(peers: str | None, key: str) -> dict[str, Callable[[], AbstractContextManager[str]]]:
    """How to start each server. Tuned: two processes of one BLAS thread, for two cores. ``peers``: a Python.
    ``key``: kshot's."""
    found: dict[str, Callable[[], AbstractContextManager[str]]] = {
        KSHOT: lambda: own_service(KSHOT_ADMIN_KEY=key),
        WRITTEN: lambda: running(Reference("logistic")),
        TUNED: lambda: running(Reference("logistic", workers=2, threads=1)),
        NOTHING: lambda: running(Reference("nothing")),
    }
    if peers:
        found[LOOP] = lambda: running(Reference("maml", python=peers))
        found[LOOP_TUNED] = lambda: running(Reference("maml", workers=2, threads=1, python=peers))
    return found


@dataclass(frozen=True)
class Probe:
    """One load, and the servers that get it one after the other. ``rate``: an open loop, instead of callers.
    ``slowness``: how much longer than others it is measured, so that the slowest server has answered each caller."""

    name: str
    workload: str
    sides: tuple[str, ...]
    callers: int = 1
    rate: float | None = None
    ordinary: bool = False
    slowness: int = 1


PROBES = (
    Probe("adapt, JSON, 1 caller", "vectors-adapt", (KSHOT, WRITTEN, TUNED)),
    Probe("adapt, JSON, 64 callers", "vectors-adapt", (KSHOT, WRITTEN, TUNED), 64),
    Probe("adapt, binary, 64 callers", "vectors-adapt-binary", (KSHOT, TUNED), 64),
    Probe("glyphs-maml, 5 queries, 32 callers", "glyphs-maml", (KSHOT, LOOP, LOOP_TUNED), 32, slowness=2),
    Probe("glyphs-maml, 75 queries, 32 callers", "glyphs-maml-75", (KSHOT, LOOP, LOOP_TUNED), 32, slowness=4),
    Probe("predict, 1 caller", "predict", (KSHOT, NOTHING)),
    Probe("predict, 64 callers", "predict", (KSHOT, NOTHING), 64),
    Probe("adapt, JSON, 1 caller, httpx", "vectors-adapt", (KSHOT, WRITTEN), ordinary=True),
    Probe("predict, 1 caller, httpx", "predict", (KSHOT, NOTHING), ordinary=True),
    Probe("predict, 64 callers, httpx", "predict", (KSHOT, NOTHING), 64, ordinary=True),
    Probe("mixed, 30 a second", "mixed", (KSHOT,), rate=30),
)
_OTHERS: dict[str, Callable[[], Requests]] = {
    "vectors-adapt": adapt_json,
    "vectors-adapt-binary": lambda: adapt_tensors("/adapt-tensors"),
    "glyphs-maml": adapt_glyphs,
    "glyphs-maml-75": lambda: adapt_glyphs(queries=15),
    "predict": lambda: predict_json("am_01JABCDEFGHJKMNPQRSTVWXYZ0"),
}
"""The same bodies for the reference servers."""


async def measure(probe: Probe, side: str, url: str, key: str, seconds: float) -> Load:
    """Put the load on one server. The numbers in the requests begin anywhere: no run repeats another's."""
    start = secrets.randbelow(2**23)
    if side == KSHOT:
        requests = await requests_of(probe.workload, url, key, start)
    else:
        others = _OTHERS[probe.workload]()
        requests = lambda number: others(start + number)  # noqa: E731
    warm_up = min(1.0, seconds / 2) * probe.slowness
    seconds *= probe.slowness
    if probe.rate:
        return await open_loop(url, requests, probe.rate, seconds, warm_up)
    connector = connect_ordinary if probe.ordinary else connect
    return await closed_loop(url, requests, probe.callers, seconds, warm_up, connector)
