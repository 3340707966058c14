"""The spans of an attempt at a job, below the request that asked for it: the whole, and what its child did after what.

The child has no collector to talk to; the trainer hears from it what it does.
"""

import time
from collections.abc import Sequence

from kshot import tracing
from kshot.contracts.jobs import JobEvent
from kshot.storage.job_runs import JobClaim


class JobTrace:
    """Of one attempt. Nothing where the request is not traced."""

    def __init__(self, claim: JobClaim) -> None:
        self._claim = claim
        self._began = time.monotonic()
        self._stretches: list[tuple[str, float]] = [("lay", self._began)]

    def heard(self, events: Sequence[JobEvent]) -> None:
        """What the child said."""
        for event in events:
            if event.kind == "phase" and event.data["phase"] != self._stretches[-1][0]:  # may be heard twice
                self.begins(str(event.data["phase"]))

    def begins(self, stretch: str) -> None:
        """Something of the trainer's own, which follows what was before."""
        self._stretches.append((stretch, time.monotonic()))

    def end(self, failed: str | None) -> None:
        """The attempt is over. ``failed``: the code of its failure."""
        parent, claim, now = self._claim.trace, self._claim, time.monotonic()
        if parent is None or not tracing.is_on():
            return
        about: tracing.Note = {
            "kshot.request_id": claim.request_id or "",
            "kshot.training_job": claim.job,
            "kshot.attempt": claim.attempt,
        }
        span = tracing.record("training job", parent, (self._began, now), about, kind="consumer", failed=failed)
        ends = [began for _, began in self._stretches[1:]] + [now]
        for (name, began), ended in zip(self._stretches, ends, strict=True):
            tracing.record(name, span, (began, ended))
