"""The end of predictions: recorded in one insert per batch, then replied to, then struck from the stream."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Unavailable
from kshot.contracts.tasks import Failure, Reply
from kshot.queue.work import Delivered, WorkQueue
from kshot.storage.predictions import NewPrediction, Recorded, insert_predictions
from workers.patience import is_away
from workers.settling import INTERNAL, failure_of
from workers.work import Outcome, Solved

AWAY = Failure(code=Unavailable.code, message="a part of the service is away for now; try again")

_log = structlog.get_logger()


class Answerer:
    """Ends predict calls. A prediction is pure: whatever gets lost here is asked again by whoever waits for it."""

    def __init__(self, database: AsyncEngine, queue: WorkQueue) -> None:
        self._database = database
        self._queue = queue

    async def answer(self, outcomes: Sequence[Outcome]) -> None:
        """Record, reply, acknowledge. What cannot be recorded is not answered but refused: the record is promised."""
        solved = [outcome for outcome in outcomes if isinstance(outcome, Solved)]
        recorded = await self._record(solved)
        refusal = recorded if isinstance(recorded, Failure) else None
        failures = [refusal if isinstance(one, Solved) else _failure(one.error) for one in outcomes]
        if isinstance(recorded, dict):
            outcomes = [_as_recorded(outcome, recorded) for outcome in outcomes]
        calls = [delivered_of(outcome) for outcome in outcomes]
        _note(calls, outcomes, failures)
        replies = [
            (delivered.call.reply_to, _reply(delivered.call.id, outcome, failure))
            for delivered, outcome, failure in zip(calls, outcomes, failures, strict=True)
        ]
        try:
            await self._queue.reply(replies, calls)
        except Exception as error:
            _log.warning("replies_lost", count=len(replies), error=type(error).__name__)

    async def drop(self, late: Sequence[Delivered]) -> None:
        """Strike calls whose deadline passed: nobody waits for them."""
        try:
            await self._queue.done(late)
        except Exception as error:
            _log.warning("drop_failed", count=len(late), error=type(error).__name__)

    async def _record(self, solved: Sequence[Solved]) -> dict[str, Recorded] | Failure:
        """Once recorded, what was before, by id; else why the answers must not go out."""
        if not solved:
            return {}
        try:
            async with self._database.connect() as connection:
                return await insert_predictions(connection, [_row(outcome) for outcome in solved])
        except Exception as error:
            _log.warning("predictions_not_recorded", count=len(solved), error=type(error).__name__)
            return AWAY if is_away(error) else INTERNAL


def delivered_of(outcome: Outcome) -> Delivered:
    """The call a prediction's outcome belongs to."""
    origin = outcome.work.origin if isinstance(outcome, Solved) else outcome.origin
    assert isinstance(origin, Delivered)
    return origin


def _note(calls: Sequence[Delivered], outcomes: Sequence[Outcome], failures: Sequence[Failure | None]) -> None:
    """A line for each failure, and one for all that were answered."""
    answered = []
    for delivered, outcome, failure in zip(calls, outcomes, failures, strict=True):
        if failure is not None:
            call = delivered.call
            _log.info("prediction_failed", id=call.id, request_id=call.request_id, failure=failure.code)
        elif isinstance(outcome, Solved):
            answered.append((delivered.call, outcome.timings))
    if answered:
        _log.info(
            "predicted",
            ids=[call.id for call, _ in answered],
            requests=[call.request_id for call, _ in answered],
            queue_ms=[timings.queue_ms for _, timings in answered],
            compute_ms=answered[0][1].compute_ms,
            batch_size=answered[0][1].batch_size,
        )


def _failure(error: Exception) -> Failure:
    return AWAY if is_away(error) else failure_of(error)


def _as_recorded(outcome: Outcome, recorded: Mapping[str, Recorded]) -> Outcome:
    """Whoever had the call before recorded its answer, and may have given it: there is no second one."""
    before = recorded.get(delivered_of(outcome).call.id)
    if before is None or not isinstance(outcome, Solved):
        return outcome
    predictions = _in_order_of(outcome.predictions, before.predictions)
    return replace(outcome, predictions=predictions, timings=before.timings)


def _in_order_of(written: Any, stored: Any) -> Any:
    """What is stored, its keys in the order in which an answer is written: Postgres does not keep it."""
    if isinstance(stored, dict) and isinstance(written, dict):
        keys = sorted(stored, key=lambda key: list(written).index(key) if key in written else len(written))
        return {key: _in_order_of(written.get(key), stored[key]) for key in keys}
    if isinstance(stored, list) and isinstance(written, list) and len(stored) == len(written):
        return [_in_order_of(*pair) for pair in zip(written, stored, strict=True)]
    return stored


def _reply(id: str, outcome: Outcome, failure: Failure | None) -> Reply:
    if failure is not None or not isinstance(outcome, Solved):
        return Reply(id=id, failure=failure)
    quality = outcome.state.quality if outcome.state else None
    chosen = outcome.work.chosen
    return Reply(
        id=id,
        predictions=_explained(outcome),
        quality=quality,
        timings=outcome.timings,
        checkpoint=None if chosen is None else chosen.checkpoint,
        selection=None if chosen is None else chosen.selection,
    )


def _explained(outcome: Solved) -> list[dict[str, Any]] | None:
    """The predictions, with the examples nearest to each where they are wanted. These are for the caller alone: a
    record outlives the support set they are taken from."""
    if outcome.nearest is None or outcome.predictions is None:
        return outcome.predictions
    return [
        {**prediction, "nearest": near} for prediction, near in zip(outcome.predictions, outcome.nearest, strict=True)
    ]


def _row(outcome: Solved) -> NewPrediction:
    delivered = delivered_of(outcome)
    call = delivered.call
    assert outcome.predictions is not None
    return NewPrediction(
        id=call.id,
        tenant=call.tenant,
        adapted_model=call.model,
        checkpoint=outcome.work.key.checkpoint,
        predictions=outcome.predictions,
        inputs=delivered.payload if call.store_inputs else None,
        timings=outcome.timings,
    )
