"""Runs the parts that have not been measured with the code as it is, one file each, so that a cut run goes on."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import about
from benchmarks.scaling import models, paper, supports, tasks, workers

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """``seconds`` of each load; ``making``: seconds to make adapted models in, altogether; ``deadline``: of this
    process, by the monotonic clock. The counts are those of each part."""

    work: Path
    seconds: float = 3.0
    making: float = 240.0
    deadline: float = float("inf")
    workers: Sequence[int] = workers.COUNTS
    tasks: Sequence[int] = tasks.COUNTS
    models: Sequence[int] = models.COUNTS
    supports: Sequence[int] = supports.SIZES


def run(plan: Plan, key: str, only: str = "") -> bool:
    """Measure what is missing; False where the time was up before the end."""
    plan.work.mkdir(parents=True, exist_ok=True)
    for name, part in _parts(plan, key).items():
        if only not in name or part_rows(plan.work, name) is not None:
            continue
        if time.monotonic() > plan.deadline:
            return False
        rows = [asdict(row) for row in part()]
        (plan.work / f"{name}.json").write_text(json.dumps({"commit": about()["commit"], "rows": rows}, indent=1))
        print(name, *rows, sep="\n  ", flush=True)
    return True


def part_rows(work: Path, name: str) -> Rows | None:
    """What was measured of a part with this commit."""
    file = work / f"{name}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    rows: Rows | None = found.get("rows")
    return rows if found.get("commit") == about()["commit"] else None


def names(plan: Plan) -> list[str]:
    """Of all parts, in the order of the page."""
    return list(_parts(plan, ""))


def _parts(plan: Plan, key: str) -> dict[str, Callable[[], Sequence[Any]]]:
    """Name -> what measures it: a sequence of dataclasses."""
    home = plan.work / "models-home"
    crews = {
        f"workers, {workload}, {count}": partial(workers.measure, count, key, workload, plan.seconds)
        for workload in workers.WORKLOADS
        for count in plan.workers
    }
    costs = {
        f"cost, {workload}": partial(paper.measure, plan.work / f"cost-{workload}", key, workload, plan.seconds)
        for workload in paper.WORKLOADS
    }
    return {
        **crews,
        "tasks": partial(tasks.measure, plan.tasks),
        "supports": partial(supports.measure, key, plan.supports, plan.seconds),
        **costs,
        "making": partial(models.make, home, key, max(plan.models), plan.making),
        "models": partial(models.measure, home, key, plan.models, plan.seconds),
    }
