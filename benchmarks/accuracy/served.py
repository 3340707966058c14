"""Accuracy over HTTP on held-out tasks: `python -m benchmarks.accuracy.served --data ../shared/data`.

Each episode is a real caller's work: POST /adapt with the support, POST /predict with 15 queries per class. Without
`--url` the benchmark starts a service of its own. Results go to `benchmarks/results/accuracy.json` and `.md`.
"""

import argparse
import asyncio
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from benchmarks.caller import Caller
from benchmarks.own_service import own_service
from benchmarks.report import record
from benchmarks.suites import SUITES, Suite
from kshot.episodes.sampling import Episode
from kshot.metrics import class_scores, mean_interval, value_scores

_EPISODES = 300
_CURVES = 600
_CALLERS = 4

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Peer:
    """A peer's mean, how far kshot is ahead of it, and half the width of the 95% interval of that (paired)."""

    mean: float
    ahead: float
    interval: float


@dataclass(frozen=True)
class Figure:
    """Mean over episodes and half the width of its 95% interval. ``peers``: others on the same tasks, by name."""

    suite: str
    data: str
    metric: str
    mean: float
    interval: float
    episodes: int
    target: float | None
    seconds: float
    peers: dict[str, "Peer"]

    @property
    def reached(self) -> bool:
        """Whether the mean reaches the target, and no peer is better by more than the interval of the difference."""
        if self.metric == "mse":
            return self.target is None or self.mean <= self.target
        return self.mean >= (self.target or 0.0) and all(peer.ahead >= -peer.interval for peer in self.peers.values())


async def measure(suite: Suite, caller: Caller, data: Path, count: int) -> Figure:
    """Run ``count`` episodes of a suite, a few callers at a time."""
    chosen = list(islice(suite.tasks(data), count))
    turns = asyncio.Semaphore(_CALLERS)
    started = time.monotonic()

    async def one(episode: Episode) -> float:
        async with turns:
            return await _score(suite, caller, episode)

    scores = np.array(await asyncio.gather(*(one(episode) for episode in chosen)))
    seconds = time.monotonic() - started
    return Figure(
        suite=suite.name,
        data=suite.data,
        metric="mse" if suite.n_way is None else "accuracy",
        mean=float(scores.mean()),
        interval=mean_interval(scores).interval,
        episodes=len(scores),
        target=suite.target,
        seconds=seconds,
        peers=_peers(chosen, scores) if suite.against_sklearn else {},
    )


async def _score(suite: Suite, caller: Caller, episode: Episode) -> float:
    support = [suite.to_wire(x) for x in episode.support]
    query = [suite.to_wire(x) for x in episode.query]
    if episode.task == "regression":
        model = await caller.adapt(suite.checkpoint, support, [float(y) for y in episode.support_targets[:, 0]])
        values = np.array(await caller.values(model, query), dtype=float)
        return value_scores(values[:, None], episode.query_targets).mse
    model = await caller.adapt(suite.checkpoint, support, [f"class {y}" for y in episode.support_targets])
    answers = np.array([int(label.removeprefix("class ")) for label in await caller.labels(model, query)])
    return class_scores(answers, np.asarray(episode.query_targets)).accuracy


def _peers(chosen: list[Episode], ours: Scores) -> dict[str, Peer]:
    """Scikit-learn's linear classifiers with their defaults, on the same supports and queries."""
    makers = {"RidgeClassifier": RidgeClassifier, "LogisticRegression": lambda: LogisticRegression(max_iter=1000)}
    found = {}
    for name, make in makers.items():
        fitted = [(make().fit(e.support, e.support_targets), e) for e in chosen]
        theirs = np.array([model.score(e.query, e.query_targets) for model, e in fitted])
        found[name] = Peer(float(theirs.mean()), float((ours - theirs).mean()), mean_interval(ours - theirs).interval)
    return found


async def measure_all(url: str, data: Path, suites: list[Suite], count: int, key: str | None) -> list[Figure]:
    """Every suite in turn, printed as it comes."""
    caller = Caller(url, key)
    figures: list[Figure] = []
    try:
        for suite in suites:
            figure = await measure(suite, caller, data, max(count, _CURVES) if suite.n_way is None else count)
            mark = "reached" if figure.reached else "MISSED"
            peers = "".join(
                f"  {name} {p.mean:.4f} ({p.ahead:+.4f} +- {p.interval:.4f})" for name, p in figure.peers.items()
            )
            print(f"{figure.suite:28} {figure.mean:8.4f} +- {figure.interval:.4f}  target {figure.target}  {mark}"
                  f"{peers}  ({figure.seconds:.0f} s)", flush=True)  # fmt: skip
            figures.append(figure)
    finally:
        await caller.close()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--url", help="a running service; default: start one")
    parser.add_argument("--key", help="an API key, where the service asks for one")
    parser.add_argument("--only", default="", help="only suites whose name starts so")
    parser.add_argument("--episodes", type=int, default=_EPISODES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    suites = [suite for suite in SUITES if suite.name.startswith(arguments.only)]
    with nullcontext(arguments.url) if arguments.url else own_service() as url:
        figures = asyncio.run(measure_all(url, arguments.data, suites, arguments.episodes, arguments.key))
    record(arguments.out / "accuracy", "Accuracy over HTTP on held-out tasks", figures)
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
