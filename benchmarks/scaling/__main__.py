"""How kshot grows: `python -m benchmarks.scaling`. Starts services of its own on loopback, one after the other.

Every part is kept in --work when it is measured; with --minutes the run stops in time, and the same command goes on.
The page (benchmarks/results/scaling.md) is written each time from what there is. Exit code 1: more is to come.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import pages
from benchmarks.scaling.suite import Plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load, after its warm-up")
    parser.add_argument("--making", type=float, default=240.0, help="seconds to make adapted models in")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop before the next part after so long")
    parser.add_argument("--only", default="", help="parts whose name has this in it")
    parser.add_argument("--work", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    plan = Plan(given.work, given.seconds, given.making, time.monotonic() + 60 * given.minutes)
    done = run(plan, _lasting_key(given.work), given.only)
    pages.write(given.out / "scaling", plan)
    return 0 if done else 1


def _lasting_key(work: Path) -> str:
    """The API key of the services: the data folder with the models outlives a run."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()


if __name__ == "__main__":
    sys.exit(main())
