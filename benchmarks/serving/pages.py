"""The page of the serving benchmark: what was asked and is missed, what was asked and is met, and every load."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure as Sheet

from benchmarks.report import about
from benchmarks.serving.claims import Loads, Verdict, judge
from benchmarks.serving.examples import Growth
from benchmarks.serving.measuring import Load

_GROWTH_TARGET = 0.1
_ROLES = ("API", "worker", "Postgres", "Valkey", "server", "client")
_INTRODUCTION = """\
kshot with everything on (API keys, the record in Postgres, Valkey, one worker) beside plain FastAPI servers that keep
no record, on the same machine, with the same bodies, by the same client, one after the other in every round. Client and
servers share the cores. The client is a raw socket per caller with ready-made requests (0.03 to 0.5 ms of CPU a
request), which is harsher on the slower server than an ordinary client: rows marked `httpx` were asked through httpx.
A ratio is the median over the rounds; the extremes stand in brackets. p50 must stay below its target, throughput above.
"""


def write(stem: Path, loads: Loads, growths: Sequence[Growth], missing: str | None) -> None:
    """``stem.json``, ``stem.md``, ``stem.png``. ``missing``: why some servers were not measured."""
    verdicts, origin = judge(loads), about()
    stem.parent.mkdir(parents=True, exist_ok=True)
    points = [
        {"probe": probe, "side": side, "rounds": [asdict(load) for load in rounds]}
        for (probe, side), rounds in loads.items()
    ]
    figures = {
        "verdicts": [asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
        "growth": [asdict(growth) for growth in growths],
        "loads": points,
    }
    stem.with_suffix(".json").write_text(json.dumps({"about": origin, **figures}, indent=1) + "\n")
    lines = ["# Serving", "", *(f"- {name}: {value}" for name, value in origin.items()), "", _INTRODUCTION]
    lines += [f"Not measured: {missing}.", ""] if missing else []
    lines += ["## Asked", "", *_verdict_table([v for v in verdicts if v.claim.asked]), "", *_growth_lines(growths), ""]
    lines += ["## Beside it", "", *_verdict_table([v for v in verdicts if not v.claim.asked]), ""]
    lines += ["## Every load", "", "Medians over the rounds; CPU in milliseconds a request, of all its processes.", ""]
    stem.with_suffix(".md").write_text("\n".join([*lines, *_load_table(loads)]) + "\n")
    if verdicts:
        _draw(stem.with_suffix(".png"), verdicts)


def _verdict_table(verdicts: Sequence[Verdict]) -> list[str]:
    lines = ["| what | against | kshot | reference | ratio | target | met |", "|" + "---|" * 7]
    for verdict in verdicts:
        claim = verdict.claim
        unit, sign = ("ms", "<=") if claim.figure == "p50" else ("/s", ">=")
        values = f"{verdict.kshot:.2f} {unit} | {verdict.reference:.2f} {unit}"
        ratio = f"{verdict.ratio:.2f} ({verdict.low:.2f} to {verdict.high:.2f})"
        met = "yes" if verdict.met else "**no**"
        lines.append(f"| {claim.what} | {claim.against} | {values} | {ratio} | {sign} {claim.target} | {met} |")
    return lines


def _growth_lines(growths: Sequence[Growth]) -> list[str]:
    if not growths:
        return []
    ratio = statistics.median(growth.one_more / growth.from_scratch for growth in growths)
    more = statistics.median(growth.one_more for growth in growths)
    scratch = statistics.median(growth.from_scratch for growth in growths)
    met = "met" if ratio <= _GROWTH_TARGET else "**not met**"
    return [
        f"One photograph (224 x 224, JPEG) added to {growths[0].support}: {more:.1f} ms; adapting to all of them "
        f"from scratch: {scratch:.1f} ms. Ratio {ratio:.3f}, target <= {_GROWTH_TARGET}: {met}."
    ]


def _load_table(loads: Loads) -> list[str]:
    head = ["load", "server", "/s", "p50 ms", "p95 ms", "p99 ms", "failed", *(f"CPU {role}" for role in _ROLES)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (probe, side), rounds in loads.items():
        cells = [f"{_middle(rounds, name):.2f}" for name in ("per_second", "p50", "p95", "p99")]
        failed = sum(sum(load.failed.values()) for load in rounds)
        cpu = [f"{statistics.median(load.cpu_ms.get(role, 0.0) for load in rounds):.2f}" for role in _ROLES]
        spent = [cell if float(cell) else "" for cell in cpu]
        lines.append("| " + " | ".join([probe, side, *cells, str(failed), *spent]) + " |")
    return lines


def _middle(rounds: Sequence[Load], name: str) -> float:
    return float(statistics.median(getattr(load, name) for load in rounds))


def _draw(file: Path, verdicts: Sequence[Verdict]) -> None:
    """A bar per claim: how much of the target is reached."""
    sheet = Sheet(figsize=(10, 1 + 0.4 * len(verdicts)), layout="constrained")
    field = sheet.subplots()
    shares = [verdict.share for verdict in verdicts]
    colours = ["#3b8b5d" if verdict.met else "#d1495b" for verdict in verdicts]
    field.barh(range(len(verdicts)), shares, color=colours, height=0.6)
    field.axvline(1.0, color="black", linewidth=1)
    field.set_yticks(range(len(verdicts)), [f"{v.claim.what}\nagainst {v.claim.against}" for v in verdicts], fontsize=7)
    for place, verdict in enumerate(verdicts):
        field.text(verdict.share, place, f" {verdict.ratio:.2f}x", va="center", fontsize=8)
    field.invert_yaxis()
    field.set_xlabel("share of the target that is reached (line: target); the ratio beside each bar")
    sheet.savefig(file, dpi=110, metadata={"Software": None})
