"""The administrator: meta-training jobs one after the other, what they made promoted, now and then rolled back."""

import json
import random
from typing import Any

from benchmarks.faults.asking import Line, pause
from benchmarks.faults.callers import Shared

NAME = "waves"
DATASET = "sines"
_ALIAS = f"/v1/aliases/{NAME}@production"
_ENDED = ("succeeded", "failed", "cancelled", "paused")


class Administrator:
    """Works until the day is over. ``steps``: of a job."""

    def __init__(self, line: Line, shared: Shared, seed: str, steps: int) -> None:
        self._line, self._shared, self._steps = line, shared, steps
        self._rng = random.Random(seed)

    async def work(self) -> None:
        while not self._line.over.is_set():
            job = await self._start()
            if job is None:
                continue
            ended = await self._see_through(job)
            if ended is not None and ended["status"] == "succeeded":
                self._shared.moving = True
                await self._promote(ended["checkpoint"])
                self._shared.moving = False
            await pause(self._line.over, 0.5)

    async def _start(self) -> str | None:
        number = next(self._shared.numbers)
        body = {
            "dataset": DATASET, "name": NAME, "description": f"order {number}", "steps": self._steps, "evaluate": [],
        }  # fmt: skip
        headers = {"Idempotency-Key": f"job-{number}"}
        told = await self._line.ask("job", "POST", "/v1/training-jobs", {"number": number}, body=body, headers=headers)
        return told.json()["id"] if told.is_accepted else None

    async def _see_through(self, job: str) -> dict[str, Any] | None:
        """The job once it has ended; some are paused for a while, or cancelled."""
        wish = self._rng.choices(["", "pause", "cancel"], [6, 2, 2])[0]
        while not self._line.over.is_set():
            told = await self._line.ask("job-get", "GET", f"/v1/training-jobs/{job}", {"job": job})
            if not told.is_accepted:
                return None
            found = told.json()
            if found["status"] == "paused":
                await self._steer(job, "resume")
            elif found["status"] in _ENDED:
                return found
            elif wish and found["status"] == "running":
                await self._steer(job, wish)
                wish = ""
            await pause(self._line.over, 0.5)
        return None

    async def _steer(self, job: str, verb: str) -> None:
        await self._line.ask(f"job-{verb}", "POST", f"/v1/training-jobs/{job}/{verb}", {"job": job})

    async def _promote(self, checkpoint: str) -> None:
        """Compared with the one in production, or by force; then perhaps back again."""
        forced = not self._shared.with_waves or self._rng.random() < 0.3
        body = {"checkpoint": checkpoint, **({"force": True} if forced else {})}
        about = {"checkpoint": checkpoint}
        told = await self._line.ask("alias", "PUT", _ALIAS, about, body=body, headers={"Prefer": "wait=5"})
        if told.status == 202:
            await self._wait_for(told.json()["id"])
        if told.status == 200:
            self._shared.with_waves = True
            if self._rng.random() < 0.3:
                await self._line.ask("alias", "POST", f"{_ALIAS}/rollback", {}, tries=1)

    async def _wait_for(self, promotion: str) -> None:
        while not self._line.over.is_set():
            path = f"/v1/promotions/{promotion}?wait=3"
            told = await self._line.ask("promotion", "GET", path, {"promotion": promotion})
            if not told.is_accepted or json.loads(told.body)["status"] not in ("queued", "running"):
                return
