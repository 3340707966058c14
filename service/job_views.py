"""Meta-training jobs as the API shows them."""

from datetime import datetime, timedelta

from kshot.contracts.job_bodies import Progress, TrainingEvent, TrainingJob
from kshot.storage.job_events import StoredEvent
from kshot.storage.jobs import StoredJob
from service.state import State

_LOOK_AGAIN_MS = 1000


async def shown(state: State, row: StoredJob) -> TrainingJob:
    """The job with what a caller may expect of it now."""
    body = _training_job(row)
    if row.is_finished or row.status == "paused":
        return body
    alive = "queued" if row.status == "queued" else "running"
    queue_state = alive if await state.trainers() else "no_worker"
    return body.model_copy(update={"queue_state": queue_state, "retry_after_ms": _LOOK_AGAIN_MS})


def _training_job(row: StoredJob) -> TrainingJob:
    """A job as its row tells it."""
    return TrainingJob(
        id=row.id,
        name=row.name,
        status=row.status,
        phase=row.phase,
        dataset=row.dataset,
        base_checkpoint=row.base_checkpoint,
        request=row.request,
        recipe=row.spec.recipe.model_dump(mode="json"),
        time_budget=_time_budget(row),
        progress=Progress(step=row.step, total=row.total),
        saved_step=row.saved_step,
        steps_per_s=row.steps_per_s,
        estimated_finish=_estimated_finish(row),
        attempt=row.attempt,
        heartbeat_at=row.heartbeat_at,
        error=row.failure,
        checkpoint=row.checkpoint,
        evaluation=row.evaluation,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def training_event(row: StoredEvent) -> TrainingEvent:
    """An event."""
    return TrainingEvent(seq=row.seq, at=row.at, attempt=row.attempt, kind=row.kind, data=row.data)


def _estimated_finish(row: StoredJob) -> datetime | None:
    """Of the training, at its present speed; what comes after it is not counted. None while that cannot be said. Until
    a time budget is turned into steps, the end of that time."""
    if row.status != "running":
        return None
    budget = _time_budget(row)
    if row.total is None and budget is not None and row.started_at is not None:
        return row.started_at + timedelta(seconds=budget)
    if row.total is None or not row.steps_per_s or row.heartbeat_at is None:
        return None
    return row.heartbeat_at + timedelta(seconds=max(0, row.total - row.step) / row.steps_per_s)


def _time_budget(row: StoredJob) -> float | None:
    return None if row.spec.minutes is None else round(60 * row.spec.minutes, 6)
