"""The way all cases go: upload, job, promotion, answers."""

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy.served import measure_all
from benchmarks.meta_training.admin import Admin
from benchmarks.own_service import own_service
from benchmarks.report import record
from benchmarks.suites import Suite

_EPISODES = 600


@dataclass(frozen=True)
class Case:
    """``upload``: data folder -> (file, request of the data set; ``splits`` apart). ``suites``: measured with the new
    checkpoint in place of their own. ``targets``: by suite name."""

    name: str
    upload: Callable[[Path], tuple[Path, dict[str, Any]]]
    suites: tuple[Suite, ...]
    targets: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """Accuracy over HTTP of the job's checkpoint on classes it never saw, and how long its job took."""

    suite: str
    data: str
    mean: float
    interval: float
    episodes: int
    target: float | None
    job_minutes: float
    steps: int


def run(doc: str, case: Case) -> int:
    """Parse the command line, run the case, record it; the exit code says whether the targets were reached."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--url", help="a running service; default: start one")
    parser.add_argument("--key", help="an admin key, where the service asks for one")
    parser.add_argument("--time-budget", type=float, help="seconds of training (default: the job's own)")
    parser.add_argument("--episodes", type=int, default=_EPISODES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    with nullcontext(given.url) if given.url else own_service() as url:
        rows = _run(case, url, given)
    record(given.out / f"meta_training_{case.name}", f"Meta-training over HTTP: {case.name}", rows)
    return 0 if all(row.target is None or row.mean >= row.target for row in rows) else 1


def _run(case: Case, url: str, given: argparse.Namespace) -> list[Row]:
    admin = Admin(url, given.key)
    name = f"bench-{case.name}"
    try:
        file, settings = case.upload(given.data)
        splits = settings.pop("splits", None)
        started = time.monotonic()
        dataset = admin.upload(settings, file, splits)
        print(f"uploaded in {time.monotonic() - started:.1f} s: {dataset['counts']}", flush=True)
        budget = {} if given.time_budget is None else {"time_budget": given.time_budget}
        started = time.monotonic()
        job = admin.train({"dataset": dataset["id"], "name": name, **budget})
        minutes = (time.monotonic() - started) / 60
        print(f"job: {minutes:.1f} minutes, {job['progress']['total']} steps", flush=True)
        for row in job["evaluation"]:
            print(
                f"  its own table: {row['data']} {row['n_way']}-way {row['k_shot']}-shot {row['mean']:.4f}", flush=True
            )
        promoted = admin.promote(f"{name}@production", job["checkpoint"])
        if promoted.is_error:
            raise RuntimeError(promoted.text)
    finally:
        admin.close()
    suites = [replace(suite, checkpoint=name, target=case.targets.get(suite.name)) for suite in case.suites]
    figures = asyncio.run(measure_all(url, given.data, suites, given.episodes, given.key))
    return [
        Row(f.suite, f.data, f.mean, f.interval, f.episodes, f.target, round(minutes, 1), job["progress"]["total"])
        for f in figures
    ]
