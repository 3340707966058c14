"""A worker that lacks one safeguard: `python -m benchmarks.faults.without polling`. Only for the controls of a chaos
run, which show that the auditor finds what the safeguard prevents. The product has no such option: what is left out
here is left out of this process's memory.
"""

import runpy
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from kshot.storage import completing

_FENCE = """ AND tasks.attempt = given.attempt AND tasks.worker = given.worker
        AND tasks.status = 'running'
"""
_ONCE = "FROM given JOIN ended USING (id)\n"
_OVERWRITTEN = """ON CONFLICT (task_id) DO UPDATE SET
    object_key = excluded.object_key, object_sha256 = excluded.object_sha256, state = excluded.state,
    quality = excluded.quality, predictions = excluded.predictions, timings = excluded.timings
"""


def without_polling() -> None:
    """Nobody looks into Postgres for tasks whose doorbell was lost, or whose worker died."""

    async def look_at_nothing(_intake: object) -> None:
        return None

    intake = import_module("workers.intake").Intake
    assert intake.poll.__name__ == "poll"
    intake.poll = look_at_nothing


def without_fence() -> None:
    """A completion counts whoever holds the task by now: the last one wins. And no worker hears that a lease is lost,
    which is the fence's other half."""
    statement = completing._COMPLETE
    assert _FENCE in statement and _ONCE in statement
    completing._COMPLETE = statement.replace(_FENCE, "\n").replace(_ONCE, _ONCE + _OVERWRITTEN)
    leases = import_module("workers.leases").Leases
    renew = leases.renew

    async def renew_and_keep(self: Any, claims: Sequence[Any]) -> list[Any]:
        await renew(self, claims)
        self.hold(claims)
        return list(claims)

    leases.renew = renew_and_keep


SAFEGUARDS: dict[str, Callable[[], None]] = {"polling": without_polling, "fence": without_fence}


def main() -> None:
    """Leave it out, then be a worker."""
    SAFEGUARDS[sys.argv[1]]()
    sys.argv = ["workers", "adapt"]
    runpy.run_module("workers", run_name="__main__")


if __name__ == "__main__":
    main()
