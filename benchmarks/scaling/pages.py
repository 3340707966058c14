"""The page of the scaling benchmark."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from benchmarks.report import about
from benchmarks.scaling import models, paper
from benchmarks.scaling.suite import Plan, Rows, names, part_rows

_PAPER = f"""\
Measured: CPU milliseconds and bytes of one request under 64 callers on this machine. Assumed: a worker and an API
process have a core each, and as many API processes run as keep the workers busy; Postgres has {paper.POSTGRES_CORES}
cores and writes 1 GB/s of log; Valkey has one core; the network carries 25 Gbit/s. Requests a second that each part
allows; the smallest is the bottleneck. Not in it: lock waits, caches that get cold, the latency of more machines.
"""


def write(stem: Path, plan: Plan) -> None:
    """``stem.json``, ``stem.md`` and ``stem.png`` from what has been measured."""
    parts = {name: rows for name in names(plan) if (rows := part_rows(plan.work, name)) is not None}
    stem.parent.mkdir(parents=True, exist_ok=True)
    origin = about()
    stem.with_suffix(".json").write_text(json.dumps({"about": origin, "parts": parts}, indent=1) + "\n")
    lines = ["# Scaling", "", *(f"- {name}: {value}" for name, value in origin.items()), ""]
    for section in (_workers, _tasks, _models, _supports, _costs):
        lines += [*section(parts), ""]
    stem.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
    _draw(stem.with_suffix(".png"), parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]


def _cell(value: Any) -> str:
    return (f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}") if isinstance(value, float) else str(value)


def _rate(load: dict[str, Any]) -> float:
    return float(load["answered"] / load["seconds"])


def _rows(parts: dict[str, Rows], start: str) -> Rows:
    return [row for name, rows in parts.items() if name.startswith(start) for row in rows]


def _workers(parts: dict[str, Rows]) -> list[str]:
    rows = _rows(parts, "workers")
    one = {row["workload"]: _rate(row["load"]) for row in rows if row["workers"] == 1}
    table = [
        (row["workload"], row["workers"], _rate(row["load"]), _rate(row["load"]) / one[row["workload"]], *_cpu(row))
        for row in rows
        if row["workload"] in one
    ]
    head = ("load, 32 callers", "workers", "/s", "against one", "p99 ms", "busy cores: workers", "busy cores: all")
    about_cores = (
        "Client, API, Postgres and Valkey share the cores with the workers, so two workers are not on free cores."
    )
    return ["## Workers", "", about_cores, "", *_table(head, table)]


def _cpu(row: dict[str, Any]) -> tuple[float, float, float]:
    load, cpu = row["load"], row["load"]["cpu_ms"]
    return load["p99"], cpu["worker"] * _rate(load) / 1000, sum(cpu.values()) * _rate(load) / 1000


def _tasks(parts: dict[str, Rows]) -> list[str]:
    rows = parts.get("tasks", [])
    one = {row["what"]: row["ms_per_task"] for row in rows if row["tasks"] == 1}
    table = [
        (row["what"], row["tasks"], row["threads"], row["ms_per_task"], one[row["what"]] / row["ms_per_task"])
        for row in rows
        if row["what"] in one
    ]
    head = ("checkpoint", "tasks a call", "threads", "ms a task", "against one")
    return [
        "## Tasks in one call",
        "",
        "The learners alone: adapt, then answer 5 queries a task.",
        "",
        *_table(head, table),
    ]


def _models(parts: dict[str, Rows]) -> list[str]:
    lines = ["## Adapted models on one worker", ""]
    for made in parts.get("making", []):
        rate = f", {made['made'] / made['seconds']:.0f} a second" if made["seconds"] else ""
        lines += [f"{made['models']:,} adapted through HTTP (5-way 1-shot, 64 numbers){rate}.", ""]
    head = ("models", "in turn p50 ms", "in turn p99", "one model p50", "one model p99", "p99 ratio", "worker MB")
    table = [
        (
            row["models"], row["turn"]["p50"], row["turn"]["p99"], row["same"]["p50"], row["same"]["p99"],
            row["turn"]["p99"] / row["same"]["p99"], row["worker_megabytes"],
        )
        for row in parts.get("models", [])
    ]  # fmt: skip
    budget = (
        f"The worker may hold {models.STATE_BYTES // 1024} KiB of adapted models: asked in turn, most of many are cold."
    )
    return [*lines, f"{budget} Asked: p99 of a cold one <= 5 times a warm one.", "", *_table(head, table)]


def _supports(parts: dict[str, Rows]) -> list[str]:
    head = ("rows", "body KiB", "p50 ms", "p99 ms", "/s", "p50 us a row")
    table = [
        (row["rows"], row["kilobytes"], row["load"]["p50"], row["load"]["p99"], _rate(row["load"]),
         row["load"]["p50"] * 1000 / row["rows"])
        for row in parts.get("supports", [])
    ]  # fmt: skip
    return [
        "## Size of the support",
        "",
        "One caller, `vectors`, 384 numbers a row, binary bodies.",
        "",
        *_table(head, table),
    ]


def _costs(parts: dict[str, Rows]) -> list[str]:
    costs = [paper.Cost(**row) for row in _rows(parts, "cost")]
    roles = ("API", "worker", "Postgres", "Valkey")
    measured = [(c.workload, *(c.cpu_ms[role] for role in roles), c.body, c.log, c.queue) for c in costs]
    head = ("a request", *(f"CPU ms {role}" for role in roles), "body bytes", "Postgres log bytes", "Valkey bytes")
    lines = ["## A cluster on paper", "", _PAPER, *_table(head, measured), ""]
    clusters = [cluster for cost in costs for cluster in paper.clusters(cost)]
    if clusters:
        limits = list(clusters[0].limit)
        table = [(c.workload, c.workers, c.api_processes, *c.limit.values(), f"**{c.bottleneck}**") for c in clusters]
        lines += _table(("load", "workers", "API processes", *limits, "first bottleneck"), table)
    return lines


def _draw(file: Path, parts: dict[str, Rows]) -> None:
    """Four fields: workers, tasks a call, models, size of the support."""
    sheet = Sheet(figsize=(11, 7), layout="constrained")
    crew, call, shelf, size = sheet.subplots(2, 2).reshape(-1)
    rows = _rows(parts, "workers")
    for workload in dict.fromkeys(row["workload"] for row in rows):
        own = [row for row in rows if row["workload"] == workload]
        _line(crew, [r["workers"] for r in own], [_rate(r["load"]) for r in own], workload)
    for what in dict.fromkeys(row["what"] for row in parts.get("tasks", [])):
        own = [row for row in parts["tasks"] if row["what"] == what]
        _line(call, [r["tasks"] for r in own], [r["ms_per_task"] for r in own], what)
    shelves, sizes = parts.get("models", []), parts.get("supports", [])
    for name, label in (("turn", "in turn"), ("same", "one model")):
        _line(shelf, [r["models"] for r in shelves], [r[name]["p99"] for r in shelves], f"p99 ms, {label}")
    _line(size, [r["rows"] for r in sizes], [r["load"]["p50"] for r in sizes], "p50 ms")
    titles = ("workers: requests a second", "tasks a call: ms a task", "adapted models", "rows in the support")
    for field, title in zip((crew, call, shelf, size), titles, strict=True):
        field.set_title(title, fontsize=10)
        if not field.lines:
            continue
        field.set_xscale("log")
        field.set_yscale("log")
        field.grid(alpha=0.3)
        field.legend(fontsize=8)
    sheet.savefig(file, dpi=110, metadata={"Software": None})


def _line(field: Axes, x: Sequence[float], y: Sequence[float], label: str) -> None:
    if x:
        field.plot(x, y, marker="o", label=label)
