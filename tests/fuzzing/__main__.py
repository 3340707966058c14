"""The long forms: `python -m tests.fuzzing decoders` and `python -m tests.fuzzing routes`.

Both write their part of benchmarks/results/fuzz.md. Exit code 1: something was found; its inputs are in --keep.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("part", choices=["decoders", "routes"])
    parser.add_argument("--inputs", type=int, default=1_200_000, help="decoders: of all of them together")
    parser.add_argument("--cases", type=int, default=200, help="routes: of each operation, in the phases that draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="decoders: those whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    given = parser.parse_args(arguments)
    if given.part == "decoders":
        from tests.fuzzing.many import fuzz_decoders

        return fuzz_decoders(given.inputs, given.seed, given.only, given.out, given.keep)
    from tests.fuzzing.routes import fuzz_routes

    return fuzz_routes(given.cases, given.seed, given.out, given.keep)


if __name__ == "__main__":
    sys.exit(main())
