"""Up to 100,000 adapted models on one worker that holds a fraction of them in memory: cold and warm predictions.

The models are made through HTTP in a data folder that stays, as many as there is time for; the next run goes on.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.own_service import service_on
from benchmarks.serving.connection import Connection, connect
from benchmarks.serving.measuring import Load, closed_loop
from benchmarks.serving.processes import resident_bytes
from benchmarks.serving.workloads import adapt_tensors, predict_json

COUNTS = (1, 100, 1_000, 10_000, 100_000)
_WIDTH = 64
_CALLERS = 64
STATE_BYTES = 1 << 20
"""The worker's memory for adapted models: far fewer than there are, so nearly every model asked in turn is cold."""


@dataclass(frozen=True)
class Shelf:
    """One caller asks ``models`` models in turn (``turn``), then one model over and over (``same``)."""

    models: int
    turn: Load
    same: Load
    worker_megabytes: float


@dataclass(frozen=True)
class Made:
    """``made`` models in ``seconds``, of ``models`` that there are now."""

    models: int
    made: int
    seconds: float


def make(home: Path, key: str, wanted: int, seconds: float) -> list[Made]:
    """Adapt models until there are ``wanted`` or the time is up. Their ids are kept in a file."""
    home.mkdir(parents=True, exist_ok=True)
    kept = home / "ids"
    have = len(_ids(kept))
    if have >= wanted:
        return [Made(have, 0, 0.0)]
    with service_on(home, KSHOT_ADMIN_KEY=key) as url, kept.open("a") as file:
        started = time.monotonic()
        made = uvloop.run(_make(url, key, have, wanted, started + seconds))
        spent = time.monotonic() - started
        file.writelines(f"{one}\n" for one in made)
    return [Made(have + len(made), len(made), spent)]


def measure(home: Path, key: str, counts: Sequence[int] = COUNTS, seconds: float = 3.0) -> list[Shelf]:
    """A fresh service on the same folder, so that no model is in memory at first."""
    ids = _ids(home / "ids")
    with service_on(home, KSHOT_ADMIN_KEY=key, KSHOT_STATE_BYTES=str(STATE_BYTES)) as url:
        return [_shelf(url, key, ids[:count], seconds) for count in counts if count <= len(ids)]


def _shelf(url: str, key: str, ids: Sequence[str], seconds: float) -> Shelf:
    step = 7919  # a prime: neighbours in time are asked far apart
    asked = [predict_json(ids[i * step % len(ids)], key=key, width=_WIDTH) for i in range(min(len(ids), 20_000))]
    turn = uvloop.run(closed_loop(url, lambda number: asked[number % len(asked)](number), 1, seconds, 0.5))
    same = uvloop.run(closed_loop(url, asked[0], 1, seconds, 0.5))
    return Shelf(len(ids), turn, same, resident_bytes(url, "worker") / 2**20)


async def _make(url: str, key: str, have: int, wanted: int, deadline: float) -> list[str]:
    requests, numbers, made = adapt_tensors(key=key, shots=1, width=_WIDTH), iter(range(have, wanted)), list[str]()
    connections = [await connect(url) for _ in range(_CALLERS)]

    async def call(connection: Connection) -> None:
        while time.monotonic() < deadline and (number := next(numbers, None)) is not None:
            answer = await connection.ask(requests(number))
            if answer.status == 201:
                made.append(str(json.loads(answer.body)["id"]))

    await asyncio.gather(*map(call, connections))
    return made


def _ids(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
