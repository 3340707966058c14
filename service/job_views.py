"""Meta-training jobs as the API shows them."""

from datetime import datetime, timedelta

from kshot.contracts.job_bodies import Progress, TrainingEvent, TrainingJob
from kshot.storage.job_events import StoredEvent
from kshot.storage.jobs import StoredJob


def training_job(row: StoredJob) -> TrainingJob:
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
    """Of the training, at its present speed; what comes after it is not counted. None while that cannot be said."""
    if row.status != "running" or row.total is None or not row.steps_per_s or row.heartbeat_at is None:
        return None
    return row.heartbeat_at + timedelta(seconds=max(0, row.total - row.step) / row.steps_per_s)
