"""The floor, and where the time goes before and after: `python -m benchmarks.peers.floor --before DIR`.

DIR: a checkout from before (`git worktree add DIR 603a1c8`). Measured: the GEMM peak in float32 and bf16 with one and
two threads, the bandwidth of a copy, and each operator's time (benchmarks.peers.operators). Counted: the floating-point
operations of one task. The shares of the peak take the rates of `peers.json`, which must be there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.cases import families
from benchmarks.peers.page import Page, Results
from benchmarks.peers.picture import draw_operators
from benchmarks.peers.problems import make
from benchmarks.peers.sides import flat
from benchmarks.report import about

_SIDE, _COPY, _SECONDS = 2048, 1 << 28, 1.5
_ADAPTATION = {
    "conv4 strided, 1-shot, batch statistics": "strided",
    "conv4 max-pooled, 1-shot, batch statistics": "max-pooled",
}
_NOTE = (
    "The peak of two processes is twice that of one thread. kshot's first step moves the head alone where that is the",
    "same, so it does less than is counted here. At stride 1 a convolution may also multiply less than is counted, in",
    "Winograd's form, which would explain shares near or above all of the peak, learn2learn's among them.",
)
_SHOWN = 8  # operators of a page's table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    trees = {"before": asked.before, "now": Path()}
    found = {
        "about": about(),
        "peak": {f"{name}, {n} threads": peak(dtype, n) for name, dtype in _DTYPES.items() for n in (1, 2)},
        "copied": {f"{n} threads": copied(n) for n in (1, 2)},
        "task": {family: flop(family) for family in _ADAPTATION},
        "operators": {name: _operators(tree) for name, tree in trees.items()},
    }
    stem = asked.out / "peers_floor"
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    stem.with_suffix(".md").write_text(_page(found, Page(asked.out)))
    draw_operators(stem.with_suffix(".png"), found["operators"], _SHOWN)


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def peak(dtype: torch.dtype, threads: int) -> float:
    """The most GFLOP/s of a product of two large matrices."""
    a, b = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return 2 * _SIDE**3 / _fastest(lambda: a @ b, threads) / 1e9


def copied(threads: int) -> float:
    """The most GB/s read and written by copying what no cache holds."""
    a, b = torch.ones(_COPY // 4), torch.ones(_COPY // 4)
    return 2 * _COPY / _fastest(lambda: a.copy_(b), threads) / 1e9


def _fastest(call: Callable[[], Any], threads: int) -> float:
    torch.set_num_threads(threads)
    call()
    seconds, begun = [], time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def flop(family: str) -> float:
    """GFLOP of one task by the flat loop, every step moving everything."""
    (found,) = (one for one in families() if one.name == family)
    work = flat.make(found.problem, found.settings, make(found.problem, found.settings), 1)
    with FlopCounterMode(display=False) as counted:
        work.call()
    return float(counted.get_total_flops()) / 1e9


def _operators(tree: Path) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "operators.json"
        subprocess.run([sys.executable, "-m", "benchmarks.peers.operators", str(tree), str(file)], check=True)
        found: dict[str, dict[str, float]] = json.loads(file.read_text())
    return found


def _page(found: dict[str, Any], measured: Page) -> str:
    origin = found["about"]
    lines = ["# Where the time goes, and the floor", "", f"{origin['date']}, commit {origin['commit']}, "]
    lines += [f"`{origin['command']}`, {origin['machine']}. Before: commit 603a1c8.", ""]
    lines += ["## The floor", "", "| | GFLOP/s |", "|---|---|"]
    lines += [f"| GEMM {_SIDE} x {_SIDE}, {name} | {rate:.0f} |" for name, rate in found["peak"].items()]
    copies = ", ".join(f"{rate:.1f} GB/s ({name})" for name, rate in found["copied"].items())
    lines += ["", f"Copying what no cache holds moves {copies}, read and written.", ""]
    lines += [
        "A task (5-way 1-shot, 5 steps, 75 queries) by the flat loop, and how near to the peak its arithmetic came:"
    ]
    lines += ["", "| | GFLOP | contestant | tasks/s | GFLOP/s | share of peak |", "|---|---|---|---|---|---|"]
    for family, gflop in found["task"].items():
        results = measured.results.get(family)
        lines += _shares(family, gflop, results, found["peak"]) if results else []
    lines += ["", *_NOTE, ""]
    lines += ["## By operator", "", "![Time by operator](peers_floor.png)", ""]
    lines += ["Milliseconds of a task, one thread, torch's profiler (whose own cost is part of it):", ""]
    for work in found["operators"]["now"]:
        lines += _table(work, found["operators"]["before"][work], found["operators"]["now"][work])
    return "\n".join(lines)


def _shares(family: str, gflop: float, results: Results, peaks: dict[str, float]) -> list[str]:
    lines = []
    for one in results.measured:
        kind = "bfloat16" if "bf16" in one.name else "float32"
        share = one.rate * gflop / (one.processes * peaks[f"{kind}, {one.threads} threads"])
        lines.append(
            f"| {family} | {gflop:.2f} | {one.name} | {one.rate:.4g} | {one.rate * gflop:.0f} | {100 * share:.0f}% |"
        )
    return lines


def _table(work: str, before: dict[str, float], now: dict[str, float]) -> list[str]:
    top = sorted(before.keys() | now.keys(), key=lambda name: -max(before.get(name, 0), now.get(name, 0)))[:_SHOWN]
    lines = [f"### {work}", "", "| operator | before | now |", "|---|---|---|"]
    lines += [f"| `{name}` | {before.get(name, 0):.3f} | {now.get(name, 0):.3f} |" for name in top]
    rest = [sum(ms for name, ms in own.items() if name not in top) for own in (before, now)]
    total = [sum(own.values()) for own in (before, now)]
    lines += [f"| all others | {rest[0]:.3f} | {rest[1]:.3f} |", f"| **sum** | {total[0]:.3f} | {total[1]:.3f} |", ""]
    return lines


if __name__ == "__main__":
    main()
