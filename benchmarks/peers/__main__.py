"""kshot beside its peers: `python -m benchmarks.peers --peers PEERS/bin/python`.

`python -m benchmarks.peers.environment PEERS` makes the peers' environment. Each family of contestants (cases.py) is
measured in interleaved rounds of one run, every side in processes of its own. `--only` measures the families whose
names hold one of its texts, and the page keeps what it had of the others. The exit code is 1 where kshot's answers are
not those of the flat loop.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.cases import families
from benchmarks.peers.measuring import Pace, Race
from benchmarks.peers.page import Page, Results
from benchmarks.peers.processes import started

_USUAL, _QUICK = Pace(rounds=5, seconds=0.3), Pace(rounds=1, seconds=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    chosen = [family for family in families() if any(text in family.name for text in asked.only)]
    page, pace = Page(asked.out), _QUICK if asked.quick else _USUAL
    wrong = []
    with started(asked.peers) as sides:
        for family in chosen:
            with tempfile.TemporaryDirectory() as folder:
                measured = Race(family, sides, Path(folder)).run(pace)
            wrong += [f"{family.name}: {one.name}" for one in measured if one.wrong]
            page.keep(Results.of(family, measured))
            print(page.text(family.name), flush=True)
    print("\n".join(f"not the flat loop's answers: {name}" for name in wrong), file=sys.stderr)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the Python of the peers' environment; without it kshot alone")
    parser.add_argument("--only", nargs="+", default=[""], help="families whose names hold one of these texts")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
