"""Overload and fairness: `python -m benchmarks.overload`, some five minutes on quiet cores.

Writes benchmarks/results/overload.md and .json. Against a service of its own, with ten tenants of mixed traffic.
"""

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.overload import page
from benchmarks.overload.suite import Fairness, Overload, Plan, fairness, new_service, overload
from benchmarks.own_service import own_service


async def run(url: str, key: str, plan: Plan) -> tuple[list[Overload], list[Fairness]]:
    """All rounds, one after the other."""
    service = await new_service(url, key, plan, secrets.randbelow(2**20))
    loads, shares = [], []
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds}", flush=True)
        loads.append(await overload(service))
        shares.append(await fairness(service, loads[-1].capacity))
    return loads, shares


_STATE_BYTES = 32 * 2**20
"""The cache of states is full before the overload: what grows then is something else."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.overload_s, help="of the overload")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overload"))
    given = parser.parse_args(arguments)
    key, plan = secrets.token_hex(32), Plan(rounds=given.rounds, overload_s=given.seconds)
    with own_service(KSHOT_ADMIN_KEY=key, KSHOT_STATE_BYTES=str(_STATE_BYTES)) as url:
        loads, shares = uvloop.run(run(url, key, plan))
    page.write(given.out, plan, loads, shares)


if __name__ == "__main__":
    main()
