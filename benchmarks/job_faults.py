"""A meta-training job whose trainer and training process are killed at random moments, beside one left in peace.

``python -m benchmarks.job_faults --kills 20 --steps 6000`` prints how often each was killed, the attempts it took, the
steps that were done twice, and whether the weights are the same bytes. The flow tests run the same in small.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.flow.job_stack import job_stack, migrated_servers, run_in_peace, run_with_kills


async def _compare(kills: int, steps: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="kshot-jobs-") as folder, migrated_servers(Path(folder)) as servers:
        async with job_stack(Path(folder), servers) as stack:
            peace = await run_in_peace(stack, steps)
            killed = await run_with_kills(stack, steps, kills, seed)
            left = stack.kept()
    equal = peace.weights == killed.weights
    print(f"in peace: {peace.seconds:.1f} s, {peace.attempts} attempt, weights {peace.weights[:16]}")
    print(f"killed:   {killed.seconds:.1f} s, {killed.attempts} attempts, weights {killed.weights[:16]}")
    print(f"kills: {killed.kills}; steps redone for each: {killed.redone}")
    print(f"weights {'equal' if equal else 'DIFFER'}; states left in the object store: {left}")
    return equal and not left


def main() -> None:
    """Ends with code 1 where the weights differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_faults")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(_compare(given.kills, given.steps, given.seed)) else 1)


if __name__ == "__main__":
    main()
