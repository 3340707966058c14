"""The page: how many changes were noticed, and each that was not, with why that is right."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import about

ARGUED = Path(__file__).with_name("argued.toml")
STEM = Path(__file__).parents[1] / "results" / "mutation"
_INTRODUCTION = """# Mutation testing: what no test notices

One small change at a time in the code that claims, completes, keeps leases and lets callers in: conditions, locks,
orders and assignments of its SQL, and operators, constants and statements of its Python. Then the tests of that code
alone run. Values of constants, lines of the log, annotations and docstrings are not changed; a change that does not
compile is none. Where fewer were run than there are changes, nothing is known of the rest. What a change did is told
of its last run; other lines of the module may have changed since.
"""


@dataclass(frozen=True)
class Outcome:
    """``noticed``: failed or hung; None: it survived. ``source`` and ``tests``: digests of what it was run with."""

    module: str
    operator: str
    line: int
    change: str
    noticed: str | None
    seconds: float
    source: str
    tests: str


def write_page(outcomes: Sequence[Outcome], possible: Mapping[str, int], stem: Path = STEM) -> None:
    """``stem.md`` and ``stem.json``. ``possible``: how many changes there are of each module."""
    origin, arguments = about(), read_arguments(ARGUED)
    lines = [_INTRODUCTION, *(f"- {name}: {value}" for name, value in origin.items()), ""]
    lines += ["| module | changes | run | failed | hung | survived | not argued |", "|---|---|---|---|---|---|---|"]
    for module, changes in possible.items():
        lines.append(_row(module, changes, [one for one in outcomes if one.module == module], arguments))
    for module in possible:
        lines += _survivors(module, [one for one in outcomes if one.module == module], arguments)
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    shown = ("module", "operator", "line", "change", "noticed", "seconds")
    rows = [{name: value for name, value in asdict(outcome).items() if name in shown} for outcome in outcomes]
    told = {"about": origin, "outcomes": rows}
    stem.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")


def read_arguments(file: Path) -> dict[tuple[str, str], str]:
    """Module and change -> why nothing need notice it."""
    listed = tomllib.loads(file.read_text())["survivor"]
    return {(one["module"], one["change"].strip()): one["why"] for one in listed}


def _row(module: str, changes: int, outcomes: Sequence[Outcome], arguments: dict[tuple[str, str], str]) -> str:
    survived = [one for one in outcomes if one.noticed is None]
    bare = sum((module, one.change) not in arguments for one in survived)
    failed, hung = (sum(one.noticed == how for one in outcomes) for how in ("failed", "hung"))
    return f"| `{module}` | {changes} | {len(outcomes)} | {failed} | {hung} | {len(survived)} | {bare} |"


def _survivors(module: str, outcomes: Sequence[Outcome], arguments: dict[tuple[str, str], str]) -> list[str]:
    survived = [one for one in outcomes if one.noticed is None]
    lines = ["", f"## {module}"] if survived else []
    for one in survived:
        why = arguments.get((module, one.change), "**not argued yet**")
        lines += ["", f"Line {one.line}: {why}", "", "```text", one.change, "```"]
    return lines
