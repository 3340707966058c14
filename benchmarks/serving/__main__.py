"""kshot and the servers it must beat, side by side: `python -m benchmarks.serving --peers /path/to/python`.

Every figure is kept in --work as it is measured; with --minutes the run stops in time, and the same command goes on.
The page (benchmarks/results/serving.md) is written each time from what there is. Exit code 1: more is to come.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.serving import pages
from benchmarks.serving.probes import PEERS_MISSING, PROBES
from benchmarks.serving.suite import Plan, Points, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--peers", help="a Python that has learn2learn (python -m benchmarks.peers.environment)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load, after its warm-up")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--only", default="", help="loads whose name has this in it")
    parser.add_argument("--work", type=Path, default=Path("runs/serving"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    plan = Plan(given.work, given.peers, given.rounds, given.seconds, time.monotonic() + 60 * given.minutes)
    done = run(replace(plan, probes=[probe for probe in PROBES if given.only in probe.name]), secrets.token_hex(32))
    points = Points(given.work)
    pages.write(given.out / "serving", points.loads(), points.growths(), None if given.peers else PEERS_MISSING)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
