"""What a worker did for the tasks and calls whose requests are traced, written down once they are over.

In the trace of each stands a span from its arrival to its end, and below it the parts: in the queue, decoded, computed,
stored. A batch is a span in the trace of its first item, with links to the spans of all; each computation links to it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kshot import tracing
from kshot.contracts.errors import KshotError
from kshot.queue.work import Delivered
from kshot.tracing import Stretch, record
from workers.work import Failed, Origin, Outcome, Solved, Work


@dataclass(frozen=True)
class _Traced:
    outcome: Outcome
    origin: Origin
    span: str


def trace_ended(outcomes: Sequence[Outcome], computed: Stretch | None = None) -> None:
    """These are over now. ``computed``: when their batch did; None where it came to none."""
    if not tracing.is_on():
        return
    now = time.monotonic()
    items = [
        _Traced(outcome, origin, _item(outcome, origin, origin.trace, now))
        for outcome, origin in ((outcome, _origin(outcome)) for outcome in outcomes)
        if origin.trace is not None
    ]
    if items and computed is not None:
        _batch(items, len(outcomes), computed, now)


def _item(outcome: Outcome, origin: Origin, parent: str, now: float) -> str:
    """The span of one item, with what came before its batch."""
    operation = "predict" if isinstance(origin, Delivered) else "adapt"
    failed = _code(outcome.error) if isinstance(outcome, Failed) else None
    sent = origin.received - (origin.waited_ms if isinstance(origin, Delivered) else origin.queue_ms) / 1000
    span = record(operation, parent, (sent, now), _names(origin), kind="consumer", failed=failed)
    record("queue", span, (sent, origin.received))
    if isinstance(outcome, Solved):
        _prepared(outcome.work, origin, span)
    return span


def _prepared(work: Work, origin: Origin, span: str) -> None:
    chosen = work.arrived - work.computed_ms / 1000
    decoded = chosen - work.queued_ms / 1000
    record("decode", span, (origin.received, decoded))
    if work.chosen is not None:
        record("choose", span, (chosen, work.arrived))


def _batch(items: Sequence[_Traced], size: int, computed: Stretch, now: float) -> None:
    about: tracing.Note = {"kshot.batch_size": size}
    work = next((one.outcome.work for one in items if isinstance(one.outcome, Solved)), None)
    if work is not None:
        about |= {"kshot.checkpoint": work.key.checkpoint, "kshot.learner": work.key.learner}
    batch = record("batch", items[0].span, computed, about, links=[one.span for one in items])
    for one in items:
        record("compute", one.span, computed, {"kshot.batch_size": size}, links=[batch])
        record("store", one.span, (computed[1], now))


def _names(origin: Origin) -> tracing.Note:
    if isinstance(origin, Delivered):
        return {"kshot.request_id": origin.call.request_id, "kshot.prediction": origin.call.id}
    return {
        "kshot.request_id": origin.request_id or "",
        "kshot.task": origin.task_id,
        "kshot.adapted_model": origin.adapted_model,
        "kshot.attempt": origin.attempt,
    }


def _origin(outcome: Outcome) -> Origin:
    return outcome.work.origin if isinstance(outcome, Solved) else outcome.origin


def _code(error: Exception) -> str:
    return error.code if isinstance(error, KshotError) else type(error).__name__
