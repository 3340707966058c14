"""The page of chaos runs: what happened to the service, what callers were told, what the auditor found."""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.audit import KINDS, Audit, Index
from benchmarks.report import about

_MOST_SHOWN = 12
_LONGEST_LINE = 420


@dataclass(frozen=True)
class Run:
    """``without``: the safeguard that was left out; None: none."""

    without: str | None
    seconds: float
    seed: int
    workers: int
    callers: int
    faults: dict[str, int]
    held_s: dict[str, float]
    requests: dict[str, dict[str, int]]
    counts: dict[str, int]
    checked: dict[str, int]
    noted: dict[str, int]
    evidence: list[str]
    about: dict[str, Any]


def run_of(
    index: Index, audit: Audit, *, without: str | None, seconds: float, seed: int, workers: int, callers: int
) -> Run:
    """The figures of a run that has been audited."""
    requests: dict[str, dict[str, int]] = {}
    for (act, status), n in sorted(index.statuses.items()):
        requests.setdefault(act, {})[status] = n
    held: dict[str, float] = defaultdict(float)
    for fault in index.faults:
        held[fault.kind] += fault.ended - fault.begun
    return Run(
        without=without,
        seconds=seconds,
        seed=seed,
        workers=workers,
        callers=callers,
        faults=dict(sorted(Counter(fault.kind for fault in index.faults).items())),
        held_s={kind: round(held[kind], 1) for kind in sorted(held)},
        requests=requests,
        counts={kind: audit.count(kind) for kind in KINDS},
        checked=dict(audit.checked),
        noted=dict(audit.noted),
        evidence=[f"{finding.kind}: {finding.evidence}" for finding in audit.findings],
        about=about(),
    )


def write(folder: Path, runs: list[Run]) -> None:
    """``faults.json`` and ``faults.md``: the run with every safeguard first, then the controls."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [asdict(run) | {"evidence": _shown(run.evidence)} for run in runs]
    (folder / "faults.json").write_text(json.dumps(kept, indent=1) + "\n")
    lines = ["# Chaos runs", "", _INTRODUCTION]
    for run in runs:
        lines += ["", *_section(run)]
    (folder / "faults.md").write_text("\n".join(lines) + "\n")


def read(folder: Path) -> list[Run]:
    """The runs of the page there is."""
    path = folder / "faults.json"
    return [Run(**run) for run in json.loads(path.read_text())] if path.is_file() else []


_INTRODUCTION = """\
The whole service as real processes (API, adaptation workers, trainer, Valkey, Postgres with `fsync` on), callers of
three tenants and an administrator who write down every answer, faults by a seed; at the end an auditor compares what
was written down with what database and object store hold, and asks again
([how](../../docs/explanation/faults.md)). A control is the same with one safeguard left out, which the same auditor
must find."""


def _section(run: Run) -> list[str]:
    title = "With every safeguard" if run.without is None else f"Control: without {_LEFT_OUT[run.without]}"
    counts = " / ".join(str(run.counts[kind]) for kind in KINDS)
    lines = [f"## {title}", "", f"**{' / '.join(KINDS)} = {counts}**", ""]
    lines += [f"- {name}: {value}" for name, value in run.about.items()]
    lines += [f"- {run.seconds:.0f} s under faults, seed {run.seed}, {run.workers} workers, {run.callers} callers", ""]
    lines += _table("fault", ["times", "seconds in all"], {k: [n, run.held_s[k]] for k, n in run.faults.items()})
    lines += ["", *_requests(run)]
    lines += ["", *_table("looked at", ["how many"], {name: [n] for name, n in sorted(run.checked.items())})]
    lines += ["", *_table("allowed, and counted", ["how many"], {name: [n] for name, n in sorted(run.noted.items())})]
    if run.evidence:
        lines += ["", "What the auditor found, its first lines:", "", "```text", *_shown(run.evidence), "```"]
    return lines


def _shown(evidence: list[str]) -> list[str]:
    """As much of it as a page holds."""
    short = [line if len(line) < _LONGEST_LINE else line[:_LONGEST_LINE] + " ..." for line in evidence]
    return short[:_MOST_SHOWN]


_LEFT_OUT = {
    "polling": "looking into Postgres (workers hear doorbells alone)",
    "fence": "the fence (a completion counts whoever holds the task by now)",
}


def _requests(run: Run) -> list[str]:
    statuses = sorted({status for counts in run.requests.values() for status in counts})
    rows = {act: [counts.get(status, 0) for status in statuses] for act, counts in run.requests.items()}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    return _table("requests", statuses, rows)


def _table(first: str, columns: list[str], rows: dict[str, list[Any]]) -> list[str]:
    lines = [f"| {' | '.join([first, *columns])} |", "|" + "---|" * (len(columns) + 1)]
    return lines + [f"| {' | '.join([name, *(str(value) for value in values)])} |" for name, values in rows.items()]
