"""How long `make serve` takes from its start to a service that has answered: `python -m benchmarks.startup`.

Cold: an empty data folder (initdb, migrations, checkpoints published). Warm: the same folder again. Each includes the
self-check, a real adaptation over HTTP. Medians of several runs go to `benchmarks/results/startup.json` and `.md`.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.own_service import service_on
from benchmarks.report import record

_RUNS = 5


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process to the line that says where it listens."""

    kind: str
    median_s: float
    slowest_s: float
    runs: int


def main() -> None:
    cold, warm = [], []
    for run in range(_RUNS):
        with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
            cold.append(_seconds(Path(folder)))
            warm.append(_seconds(Path(folder)))
        print(f"run {run + 1}: cold {cold[-1]:.1f} s, warm {warm[-1]:.1f} s", flush=True)
    starts = [
        Start(kind, statistics.median(seconds), max(seconds), len(seconds))
        for kind, seconds in (("cold", cold), ("warm", warm))
    ]
    record(Path("benchmarks/results/startup"), "From start to ready", starts)


def _seconds(folder: Path) -> float:
    started = time.monotonic()
    with service_on(folder):
        return time.monotonic() - started


if __name__ == "__main__":
    main()
