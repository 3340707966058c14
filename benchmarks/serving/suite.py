"""Runs the probes round by round and keeps every figure in a file, so that a run that was cut goes on where it was."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from benchmarks.report import about
from benchmarks.serving.examples import Growth, grow
from benchmarks.serving.measuring import Load
from benchmarks.serving.probes import KSHOT, PROBES, Probe, measure, sides

_GROWTH = "one example more"


@dataclass(frozen=True)
class Plan:
    """``probes`` x ``rounds``, ``seconds`` each. ``peers``: a Python with learn2learn, or None. ``deadline``: of this
    process, by the monotonic clock. ``support``: photographs before one more comes."""

    work: Path
    peers: str | None
    rounds: int = 3
    seconds: float = 3.0
    deadline: float = float("inf")
    probes: Sequence[Probe] = PROBES
    support: int = 50


class Points:
    """What has been measured with the code as it is now; figures of another commit are left behind."""

    def __init__(self, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._file, self._commit = work / "points.jsonl", about()["commit"]
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._points = [point for point in map(json.loads, lines) if point["commit"] == self._commit]

    def have(self, probe: str, side: str, round_: int) -> bool:
        return any((p["probe"], p["side"], p["round"]) == (probe, side, round_) for p in self._points)

    def add(self, probe: str, side: str, round_: int, figures: Load | Growth) -> None:
        point = {"commit": self._commit, "probe": probe, "side": side, "round": round_, "figures": asdict(figures)}
        self._points.append(point)
        with self._file.open("a") as file:
            file.write(json.dumps(point) + "\n")

    def loads(self) -> dict[tuple[str, str], list[Load]]:
        """(probe, side) -> a load per round."""
        found: defaultdict[tuple[str, str], list[Load]] = defaultdict(list)
        for point in sorted(self._points, key=lambda point: int(point["round"])):
            if point["probe"] != _GROWTH:
                found[point["probe"], point["side"]].append(Load(**point["figures"]))
        return dict(found)

    def growths(self) -> list[Growth]:
        return [Growth(**point["figures"]) for point in self._points if point["probe"] == _GROWTH]


def run(plan: Plan, key: str) -> bool:
    """Measure what is missing; False where the time was up before the end."""
    points = Points(plan.work)
    with ExitStack() as stack:
        servers = _Servers(stack, plan.peers, key)
        for round_ in range(plan.rounds):
            for probe in plan.probes:
                for side in probe.sides:
                    if points.have(probe.name, side, round_) or side not in servers.known:
                        continue
                    if time.monotonic() > plan.deadline:
                        return False
                    load = uvloop.run(measure(probe, side, servers.url(side), key, plan.seconds))
                    points.add(probe.name, side, round_, load)
                    print(f"round {round_ + 1}: {probe.name}: {side}: {load.line()}", flush=True)
            if not points.have(_GROWTH, KSHOT, round_):
                growth = uvloop.run(grow(servers.url(KSHOT), key, plan.support))
                points.add(_GROWTH, KSHOT, round_, growth)
                print(f"round {round_ + 1}: {growth}", flush=True)
    return True


class _Servers:
    """Started when they are first asked, and idle beside each other from then on."""

    def __init__(self, stack: ExitStack, peers: str | None, key: str) -> None:
        self.known = sides(peers, key)
        self._stack, self._urls = stack, dict[str, str]()

    def url(self, side: str) -> str:
        if side not in self._urls:
            self._urls[side] = self._stack.enter_context(self.known[side]())
        return self._urls[side]
