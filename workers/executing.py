"""Computing a batch: one call of the learner where all goes well, and no item ever fails for its neighbour's sake."""

import time
from collections.abc import Sequence

import structlog
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import KshotError
from kshot.contracts.tasks import SupportSet, Timings
from kshot.learners.base import Column, Learner, State, Support
from kshot.learners.registry import get_learner
from kshot.queue.work import Delivered
from workers.answers import Asked, Prediction, write_answers
from workers.explaining import explain
from workers.states import own_memory
from workers.work import Failed, Outcome, Solved, Work

_log = structlog.get_logger()


def solve(checkpoint: Checkpoint, batch: Sequence[Work]) -> list[Outcome]:
    """The outcome of each item of one key, in order.

    Where a call fails, each half of the batch is tried by itself, down to the item at fault.
    """
    try:
        return list(_together(checkpoint, batch))
    except Exception as error:
        if len(batch) == 1:
            if not isinstance(error, KshotError):  # a caller's mistake is his to read; ours needs its trace
                _log.error(
                    "compute_failed", request_id=batch[0].request_id, checkpoint=batch[0].key.checkpoint, exc_info=error
                )
            return [Failed(batch[0].origin, error)]
    half = len(batch) // 2
    return solve(checkpoint, batch[:half]) + solve(checkpoint, batch[half:])


def as_support(support: SupportSet) -> Support:
    """A decoded support set as the learners take it."""
    n_way = len(support.classes) if support.task == "classification" else None
    columns = tuple(Column(spec.kind, len(spec.classes) or None) for spec in support.columns)
    return Support(support.task, support.inputs, torch.tensor(support.targets), n_way, columns)


def _together(checkpoint: Checkpoint, batch: Sequence[Work]) -> list[Solved]:
    started = time.monotonic()
    learner = get_learner(batch[0].key.learner)
    adapted = _adapted(learner, checkpoint, batch)
    states = [work.model.state for work in batch if work.model] if adapted is None else adapted
    predictions = _predictions(learner, checkpoint, batch, states)
    nearest = explain(checkpoint, batch)
    compute_ms = (time.monotonic() - started) * 1000
    return [
        Solved(
            work,
            None if adapted is None else adapted[i],
            predictions[i],
            Timings(
                queue_ms=_queue_ms(work, started),
                compute_ms=round(work.computed_ms + compute_ms, 3),
                batch_size=len(batch),
            ),
            nearest[i],
        )
        for i, work in enumerate(batch)
    ]


def _adapted(learner: Learner, checkpoint: Checkpoint, batch: Sequence[Work]) -> list[State] | None:
    key = batch[0].key
    if key.operation == "predict":
        return None
    supports = [as_support(work.payload.support) for work in batch if work.payload.support is not None]
    return [own_memory(state) for state in learner.adapt(checkpoint, supports, key.options)]


def _predictions(
    learner: Learner, checkpoint: Checkpoint, batch: Sequence[Work], states: Sequence[State]
) -> list[list[Prediction] | None]:
    """The answers to the items that ask something: every prediction, and adaptations that came with queries."""
    asked = [(i, work.payload.query) for i, work in enumerate(batch) if work.payload.query is not None]
    written: list[list[Prediction] | None] = [None] * len(batch)
    if not asked:
        return written
    outputs = learner.predict(checkpoint, [states[i] for i, _ in asked], [query for _, query in asked])
    works = [batch[i] for i, _ in asked]
    param = "query.inputs" if batch[0].key.operation == "adapt" else "inputs"
    answers = write_answers(
        [
            Asked(output, work.classes, work.payload.answer, work.columns)
            for work, output in zip(works, outputs, strict=True)
        ],
        param,
    )
    for (i, _), predictions in zip(asked, answers, strict=True):
        written[i] = predictions
    return written


def _queue_ms(work: Work, started: float) -> float:
    """Time in the queue outside, and in the worker's own."""
    before = work.origin.waited_ms if isinstance(work.origin, Delivered) else work.origin.queue_ms
    return round(before + work.queued_ms + (started - work.arrived) * 1000, 3)
