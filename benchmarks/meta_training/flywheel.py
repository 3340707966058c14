"""Learning from the service's own tasks: `python -m benchmarks.meta_training.flywheel --data ../shared/data`.

Over HTTP alone, a tenant of one domain (a bank's support desk: BANKING77) that opted in to recording brings a stream of
tasks to the shipped checkpoint `intents`, which was meta-trained on other intents (CLINC150), and corrects its answers
by feedback. A job meta-trains on what was recorded, starting at the shipped checkpoint; the gate compares the two and
promotes. Later tasks of the domain are then asked of both, each by its id, on the same episodes: tasks of intents that
were in the stream, and tasks of intents that never were. Results go to `benchmarks/results/meta_training_flywheel.json`
and `.md`.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.meta_training.admin import Admin
from benchmarks.own_service import own_service
from benchmarks.report import record
from kshot.contracts.checkpoints import TextInput
from kshot.contracts.wire import Array
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.metrics import mean_interval
from kshot.training.data import load_pool

_STREAM, _LATER, _CALLERS = 300, 600, 4
_STREAM_SHAPE = EpisodeShape(5, 5, 5)
_LATER_SHAPES = [EpisodeShape(5, 1, 15), EpisodeShape(5, 5, 15), EpisodeShape(20, 5, 10)]
_BASE, _ALIAS = "intents", "intents@production"


@dataclass(frozen=True)
class Row:
    """Accuracy of both checkpoints on the same later tasks, and how far the new one is ahead, with its interval."""

    later_tasks: str
    n_way: int
    k_shot: int
    shipped: float
    new: float
    ahead: float
    interval: float
    episodes: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--stream", type=int, default=_STREAM, help="tasks before the job")
    parser.add_argument("--later", type=int, default=_LATER, help="tasks after it, of each shape")
    parser.add_argument("--url", help="a running service; default: start one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    pools = _pools(given.data)
    with nullcontext(given.url) if given.url else own_service() as url:
        shipped, new = _turn_once(url, pools["intents of the stream"][0], given.stream)
        rows = [
            _row(
                name,
                shape,
                asyncio.run(_compare(url, (shipped, new), list(islice(episodes(pool, shape, 7), given.later)))),
            )
            for name, (_, pool) in pools.items()
            for shape in _LATER_SHAPES
        ]
    for row in rows:
        print(row, flush=True)
    record(given.out / "meta_training_flywheel", "Learning from the service's own tasks", rows)
    return 0 if all(row.ahead > row.interval for row in rows) else 1


def _pools(data: Path) -> dict[str, tuple[Pool, Pool]]:
    """(for the stream, for later) by what the later tasks ask: half of each streamed intent's texts are kept for later,
    and no text of the unseen intents is in the stream."""
    streamed, unseen = (load_pool("banking77", part, data, TextInput()) for part in ("trainval", "test"))
    halves = [np.array_split(np.random.default_rng(0).permutation(rows), 2) for rows in streamed.rows]
    early, later = (Pool(streamed.inputs, streamed.classes, tuple(own[i] for own in halves)) for i in (0, 1))
    return {"intents of the stream": (early, later), "intents never seen": (early, unseen)}


def _turn_once(url: str, pool: Pool, count: int) -> tuple[str, str]:
    """One turn of the wheel; the ids of the checkpoints in production before and after it."""
    admin = Admin(url)
    try:
        shipped = admin.ask("GET", f"/v1/aliases/{_ALIAS}")["checkpoint"]
        admin.ask("PUT", "/v1/recording", {"enabled": True})
        asyncio.run(_stream(url, islice(episodes(pool, _STREAM_SHAPE, 1), count)))
        dataset = admin.recorded("banking-tasks", _BASE)
        print(f"recorded: {dataset['counts'] or dataset['n_examples']}", flush=True)
        job = admin.train({"dataset": dataset["id"], "name": _BASE, "base_checkpoint": _ALIAS})
        promoted = admin.promote(_ALIAS, job["checkpoint"])
        print(f"the gate: {promoted.status_code} {promoted.text[:600]}", flush=True)
        promotion = admin.ask("GET", "/v1/promotions")["data"][0]
        print(f"compared: {promotion['comparison']}", flush=True)
        return str(shipped), str(job["checkpoint"])
    finally:
        admin.close()


async def _stream(url: str, tasks: Iterator[Episode]) -> None:
    """Each task: adapt, predict, tell the truth."""
    turns = asyncio.Semaphore(_CALLERS)
    async with httpx.AsyncClient(base_url=url, timeout=120, headers={"Prefer": "wait=60"}) as http:

        async def one(task: Episode) -> None:
            async with turns:
                support = {"inputs": list(task.support), "labels": _labels(task.support_targets)}
                made = _checked(await http.post("/adapt", json={"checkpoint": _ALIAS, "support": support}))
                query = {"model": made["id"], "inputs": list(task.query), "store": True}
                answered = _checked(await http.post("/predict", json=query))
                truth = {"prediction": answered["id"], "labels": _labels(task.query_targets)}
                _checked(await http.post(f"/v1/adapted-models/{made['id']}/feedback", json=truth))

        await asyncio.gather(*(one(task) for task in tasks))


async def _compare(url: str, checkpoints: Sequence[str], tasks: list[Episode]) -> Array:
    """Accuracies (n_tasks, n_checkpoints) of one-shot calls."""
    turns = asyncio.Semaphore(_CALLERS)
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:

        async def one(checkpoint: str, task: Episode) -> float:
            support = {"inputs": list(task.support), "labels": _labels(task.support_targets)}
            body = {"checkpoint": checkpoint, "support": support, "inputs": list(task.query), "return": ["labels"]}
            async with turns:
                answer = _checked(await http.post("/predict", json=body))
            said = [prediction["label"] for prediction in answer["predictions"]]
            return float(np.mean([a == b for a, b in zip(said, _labels(task.query_targets), strict=True)]))

        scores = [await asyncio.gather(*(one(checkpoint, task) for checkpoint in checkpoints)) for task in tasks]
    return np.array(scores)


def _row(name: str, shape: EpisodeShape, scores: Array) -> Row:
    ahead = mean_interval(scores[:, 1] - scores[:, 0])
    shipped, new = (float(column.mean()) for column in scores.T)
    return Row(name, shape.n_way, shape.k_shot, shipped, new, ahead.mean, ahead.interval, len(scores))


def _labels(targets: Array) -> list[str]:
    return [f"intent {target}" for target in targets]


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.url.path} answered {answer.status_code}: {answer.text[:500]}")
    return answer.json()


if __name__ == "__main__":
    sys.exit(main())
