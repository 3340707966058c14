"""`python -m benchmarks.faults --seconds 600 --seed 1`: the service under faults, audited; with `--without fence` or
`--without polling` a control. Each writes its section of `benchmarks/results/faults.md`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.ledger import Ledger
from benchmarks.faults.page import read, run_of, write
from benchmarks.faults.running import TENANTS, Day, Spent, spend
from benchmarks.faults.schedule import draw
from benchmarks.faults.without import SAFEGUARDS
from tests.flow.chaos_stack import whole_service

_RESULTS = Path(__file__).parents[1] / "results"
_CALLERS = 3
_JOB_STEPS = 120


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    made.add_argument("--seconds", type=float, default=600, help="how long there are faults")
    made.add_argument("--every", type=float, default=4, help="seconds between two faults, on average")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--without", choices=sorted(SAFEGUARDS), help="leave this safeguard out: a control")
    made.add_argument("--out", type=Path, default=_RESULTS)
    return made


def main() -> None:
    """Ends with code 1 where the auditor finds something, of a control where it finds nothing."""
    given = parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kshot-chaos-"))
    spent = chaos(folder, given)
    run = run_of(
        spent.index,
        spent.audit,
        without=given.without,
        seconds=given.seconds,
        seed=given.seed,
        workers=given.workers,
        callers=_CALLERS * len(TENANTS) + 1,
    )
    others = [before for before in read(given.out) if before.without != given.without]
    write(given.out, sorted([*others, run], key=lambda one: one.without or ""))
    print("\n".join(run.evidence[:40]))
    print(run.counts)
    if (sum(run.counts.values()) > 0) != (given.without is not None):
        sys.exit(f"not as it should be: the ledger and every process's log are in {folder}")
    shutil.rmtree(folder)


def chaos(folder: Path, given: argparse.Namespace) -> Spent:
    """One run, from an empty service to the audit."""
    entry = ("workers", "adapt") if given.without is None else ("benchmarks.faults.without", given.without)
    faults = draw(given.seed, given.seconds, given.every)
    day = Day(faults, given.seconds, given.seed, _CALLERS, _JOB_STEPS, until_swept=True)
    with whole_service(folder, workers=given.workers, entry=entry) as service:
        return asyncio.run(spend(day, service, Ledger(folder / "ledger.jsonl")))


if __name__ == "__main__":
    main()
