"""Feedback: the true labels of queries that an adapted model was, or could have been, asked."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, NotFound
from kshot.storage.flywheel_tables import feedback
from kshot.storage.tables import adapted_models, predictions

MAX_PER_MODEL = 10_000
"""Labels of feedback that one adapted model takes."""


@dataclass(frozen=True)
class NewFeedback:
    """Feedback as accepted. ``prediction``: the answers it speaks of, made by ``checkpoint``. ``payload``: queries with
    their true labels as a support set; None where the queries are not known. Of the ``n`` labels, ``n_answered`` have
    an answer to be compared with, ``n_correct`` of them the right class, ``squared_error`` in all away from it."""

    id: str
    tenant: str
    adapted_model: str
    prediction: str | None
    checkpoint: str | None
    payload: bytes | None
    n: int
    n_answered: int
    n_correct: int | None
    squared_error: float | None


@dataclass(frozen=True)
class RecordedPrediction:
    """A prediction as recorded. ``inputs``: its payload, where the caller said ``store: true``."""

    id: str
    checkpoint: str
    n_query: int
    answers: list[dict[str, Any]]
    inputs: bytes | None


async def insert_feedback(connection: AsyncConnection, item: NewFeedback) -> None:
    """Record feedback. Conflict: this prediction has its feedback, or the model has as much as it takes. NotFound: it
    was deleted just now."""
    # one at a time for a model: two that are counted at once would both fit
    alive = select(adapted_models.c.id).where(
        adapted_models.c.id == item.adapted_model, adapted_models.c.deleted_at.is_(None)
    )
    if await connection.scalar(alive.with_for_update(key_share=True)) is None:
        raise NotFound("no adapted model with this id")
    taken = await connection.scalar(
        select(func.coalesce(func.sum(feedback.c.n), 0)).where(feedback.c.adapted_model_id == item.adapted_model)
    )
    if int(taken or 0) + item.n > MAX_PER_MODEL:
        raise Conflict(f"a model takes feedback on {MAX_PER_MODEL} inputs; adapt again, with examples of them")
    inserted = await connection.execute(
        insert(feedback)
        .values(
            id=item.id,
            tenant_id=item.tenant,
            adapted_model_id=item.adapted_model,
            prediction_id=item.prediction,
            checkpoint_id=item.checkpoint,
            payload=item.payload,
            n=item.n,
            n_answered=item.n_answered,
            n_correct=item.n_correct,
            squared_error=item.squared_error,
        )
        .on_conflict_do_nothing(
            index_elements=[feedback.c.prediction_id], index_where=feedback.c.prediction_id.is_not(None)
        )
        .returning(feedback.c.id)
    )
    if inserted.scalar() is None:
        raise Conflict("this prediction has its feedback already", param="prediction")
    await renew_observed(connection, item.adapted_model)


async def get_prediction(connection: AsyncConnection, tenant: str, model: str, id: str) -> RecordedPrediction:
    """A recorded prediction of this adapted model. Raises NotFound."""
    row = (
        await connection.execute(
            select(predictions).where(
                predictions.c.id == id, predictions.c.tenant_id == tenant, predictions.c.adapted_model_id == model
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound("this model made no prediction with this id", param="prediction")
    return RecordedPrediction(row.id, row.checkpoint_id, row.n_query, row.predictions, row.inputs)


async def get_feedback(connection: AsyncConnection, tenant: str, id: str) -> NewFeedback:
    """Feedback recorded before. Raises NotFound."""
    row = (
        await connection.execute(select(feedback).where(feedback.c.id == id, feedback.c.tenant_id == tenant))
    ).one_or_none()
    if row is None:
        raise NotFound("no feedback with this id")
    return NewFeedback(
        row.id,
        row.tenant_id,
        row.adapted_model_id,
        row.prediction_id,
        row.checkpoint_id,
        row.payload,
        row.n,
        row.n_answered,
        row.n_correct,
        row.squared_error,
    )


async def renew_observed(connection: AsyncConnection, model_id: str) -> None:
    """After new feedback, or a model's move to another checkpoint: what feedback says of that checkpoint's answers."""
    told = {"n": feedback.c.n_answered, "correct": feedback.c.n_correct, "squared_error": feedback.c.squared_error}
    parts = [part for name, column in told.items() for part in (name, func.sum(column))]
    observed = (
        select(func.jsonb_build_object(*parts))
        .where(
            feedback.c.adapted_model_id == adapted_models.c.id,
            feedback.c.checkpoint_id == adapted_models.c.checkpoint_id,
        )
        .having(func.sum(feedback.c.n_answered) > 0)
        .correlate(adapted_models)
        .scalar_subquery()
    )
    await connection.execute(update(adapted_models).where(adapted_models.c.id == model_id).values(observed=observed))
