"""What a worker counts of its own work: a few additions for each batch, written down with the heartbeat."""

from collections import Counter
from collections.abc import Iterable, Sequence

from kshot.contracts.worker_stats import BATCH_ITEMS, SECONDS, CacheCount, Tally, TaskCount, Unwanted, WorkerStats
from kshot.storage.tasks import Claim
from workers.patience import is_away
from workers.work import Failed, Origin, Outcome, Solved


class Counts:
    """Since the worker's start; used from the event loop alone."""

    def __init__(self) -> None:
        self._batch_items = Tally(BATCH_ITEMS)
        self._batches = 0
        self._retried = 0
        self._tasks: Counter[tuple[str, str]] = Counter()
        self._queued: dict[str, Tally] = {}
        self._computed: dict[str, Tally] = {}

    def claimed(self, claims: Sequence[Claim]) -> None:
        """These are ours now. A second attempt means that a lease was lost: what is given back counts as none."""
        self._retried += sum(claim.attempt > 1 for claim in claims)

    def batch(self, items: int) -> None:
        """So many items went through the learner together."""
        self._batches += 1
        self._batch_items.add(items)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """These items are over. A task that is given back since a part of the service is away is not."""
        for outcome in outcomes:
            if isinstance(outcome, Solved):
                self._solved(outcome)
            elif not _is_given_back(outcome):
                self._tasks[_kind(outcome.origin), "failed"] += 1

    def dropped(self, calls: Iterable[tuple[Origin, Unwanted]]) -> None:
        """These items were not computed: nobody waits for them."""
        for origin, reason in calls:
            self._tasks[_kind(origin), reason] += 1

    def stats(self, caches: Iterable[CacheCount]) -> WorkerStats:
        """All that was counted so far."""
        return WorkerStats(
            batches=self._batches,
            batch_items=self._batch_items.histogram(),
            tasks=tuple(TaskCount(kind=kind, outcome=how, count=n) for (kind, how), n in sorted(self._tasks.items())),
            queue_seconds={kind: tally.histogram() for kind, tally in self._queued.items()},
            compute_seconds={kind: tally.histogram() for kind, tally in self._computed.items()},
            caches=tuple(caches),
            retried=self._retried,
        )

    def _solved(self, outcome: Solved) -> None:
        kind, timings = _kind(outcome.work.origin), outcome.timings
        if kind not in self._queued:
            self._queued[kind], self._computed[kind] = Tally(SECONDS), Tally(SECONDS)
        self._tasks[kind, "succeeded"] += 1
        self._queued[kind].add(timings.queue_ms / 1000)
        self._computed[kind].add(timings.compute_ms / 1000)


def _is_given_back(outcome: Failed) -> bool:
    return isinstance(outcome.origin, Claim) and is_away(outcome.error)


def _kind(origin: Origin) -> str:
    if isinstance(origin, Claim):
        return "replay" if origin.background else "adapt"
    return "oneshot" if origin.call.model is None else "predict"
