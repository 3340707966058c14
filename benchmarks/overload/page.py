"""The page of the overload: what was asked, what came of it, and every round."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from benchmarks.overload.suite import LOUD, MODERATE, TENANTS, Fairness, Overload, Plan
from benchmarks.report import about
from benchmarks.serving.measuring import Load

_RATIO, _RECOVERY_S, _GROWTH, _RAISED = 3.0, 5.0, 1.1, 2.0
R = TypeVar("R")
_INTRODUCTION = f"""\
Mixed traffic of {TENANTS} tenants (half predictions; the rest adapts vectors, drawings and texts with five checkpoints)
against a service of `make serve`'s kind: one API process, one worker, one thread. Client and service share the cores.

- Capacity: 64 callers, each asking again as soon as it is answered.
- Quiet: {MODERATE:.0%} of that, at random moments (an open loop, Poisson). Its p99 is the "unloaded p99" here.
- Overload: an open loop of several times the capacity, from one moment to the next; latencies are of calls answered
  with 2xx, from the moment each was due.
- Recovered: the end of the last second after it, at the quiet load again, in which a call was refused or the p95 was
  above twice the quiet one.
- Memory: what processes do not share, by role; the cache of adapted states holds 32 MiB, and a burst comes first, so
  that what grows once is there before.
- Share: a tenth of the quiet load. Fairness: the p99 of nine tenants at their shares, without the tenth and while he
  asks for {LOUD} shares.
"""


def write(stem: Path, plan: Plan, loads: Sequence[Overload], shares: Sequence[Fairness]) -> None:
    """``stem.json`` and ``stem.md``."""
    origin = about()
    stem.parent.mkdir(parents=True, exist_ok=True)
    rounds = {"overload": [asdict(one) for one in loads], "fairness": [asdict(one) for one in shares]}
    stem.with_suffix(".json").write_text(json.dumps({"about": origin, "plan": asdict(plan), **rounds}, indent=1) + "\n")
    lines = ["# Overload", "", *(f"- {name}: {value}" for name, value in origin.items()), "", _INTRODUCTION]
    lines += ["## Asked", "", f"Medians of {len(loads)} rounds.", "", *_asked(plan, loads, shares), ""]
    lines += ["## Every stretch", "", *_stretches(loads, shares), ""]
    lines += ["## Memory", "", "MiB, the most over the rounds.", "", *_memory(loads)]
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _asked(plan: Plan, loads: Sequence[Overload], shares: Sequence[Fairness]) -> list[str]:
    refused, told = sum(one.overload.failed.get(429, 0) for one in loads), sum(one.retry_afters for one in loads)
    span = min(one.told[0] for one in loads), max(one.told[1] for one in loads)
    others = sum(n for one in loads for status, n in one.overload.failed.items() if status != 429)
    ratio, raised = _middle(loads, lambda one: one.ratio), _middle(shares, lambda one: one.ratio)
    recovered = _middle(loads, lambda one: one.recovered_s)
    growth = max(_grown(one) for one in loads)
    rows = [
        ("refused with 429 and Retry-After", f"{refused}, {told} of them told {span[0]:.0f} to {span[1]:.0f} s", "all",
         refused > 0 and told >= refused),
        ("other failures", str(others), "0", others == 0),
        ("p99 of accepted work against the quiet p99", f"{ratio:.2f}", f"<= {_RATIO}", ratio <= _RATIO),
        ("memory at its most against before (API and worker)", f"{growth:.2f}", f"<= {_GROWTH}", growth <= _GROWTH),
        ("recovered after", f"{recovered:.0f} s", f"<= {_RECOVERY_S:.0f} s", recovered <= _RECOVERY_S),
        (f"p99 of nine tenants beside one at {LOUD} shares, against without", f"{raised:.2f}", f"< {_RAISED}",
         raised < _RAISED),
    ]  # fmt: skip
    head = [f"Offered: {plan.factor:g} times the capacity, for {plan.overload_s:g} s.", ""]
    return head + _table(
        ("what", "measured", "target", "met"), [(*row[:3], "yes" if row[3] else "**no**") for row in rows]
    )


def _stretches(loads: Sequence[Overload], shares: Sequence[Fairness]) -> list[str]:
    rows = []
    for number, (one, fair) in enumerate(zip(loads, shares, strict=True), 1):
        rows += [
            _row(number, "quiet", MODERATE * one.capacity, one.quiet),
            _row(number, "overload", one.offered, one.overload),
            _row(number, "nine tenants alone", fair.share * (TENANTS - 1), fair.without),
            _row(number, "nine beside the loud one", fair.share * (TENANTS - 1), fair.beside),
            _row(number, "the loud one", fair.share * LOUD, fair.loud),
        ]
    head = ("round", "stretch", "offered /s", "answered /s", "p50 ms", "p95 ms", "p99 ms", "refused", "other")
    capacities = ", ".join(f"{one.capacity:.0f}" for one in loads)
    return [f"Capacity: {capacities} calls a second.", "", *_table(head, rows)]


def _row(number: int, name: str, offered: float, load: Load) -> tuple[str, ...]:
    refused = load.failed.get(429, 0)
    latencies = tuple(f"{value:.1f}" for value in (load.p50, load.p95, load.p99))
    other = sum(load.failed.values()) - refused
    return str(number), name, f"{offered:.0f}", f"{load.per_second:.0f}", *latencies, str(refused), str(other)


def _memory(loads: Sequence[Overload]) -> list[str]:
    roles = sorted({role for one in loads for held in one.memory.values() for role in held})
    return _table(
        ("process", "before", "during", "after"),
        [
            (role, *(f"{max(one.memory[when].get(role, 0.0) for one in loads):.0f}" for when in _WHEN))
            for role in roles
        ],
    )  # fmt: skip


_WHEN = ("before", "during", "after")


def _grown(one: Overload) -> float:
    before, during = one.memory["before"], one.memory["during"]
    return max(during.get(role, 0.0) / before[role] for role in ("API", "worker") if role in before)


def _middle(rounds: Sequence[R], figure: Callable[[R], float]) -> float:
    return statistics.median(figure(one) for one in rounds)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
