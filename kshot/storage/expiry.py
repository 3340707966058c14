"""What expired models leave behind, and how it is erased. Their rows stay, so that a caller reads 410 and not 404."""

from sqlalchemy import case, func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.tables import adapted_models, results, seconds_from_now, tasks

_GRACE_S = 60.0  # longer than any transaction that still saw the model alive, and may be giving it more time


async def erase_expired(connection: AsyncConnection, limit: int) -> dict[str, int]:
    """Erase support sets and predictions of up to ``limit`` expired models, and cancel those nobody computed in time.

    Returns their tasks, with the attempts made: the states of these are to be deleted before the transaction ends.
    What another process erases, claims or completes at the moment is left to the next turn.
    """
    expired = (
        select(tasks.c.id)
        .join(adapted_models, adapted_models.c.id == tasks.c.adapted_model_id)
        .where(
            adapted_models.c.expires_at < seconds_from_now(-_GRACE_S),
            ~adapted_models.c.pinned,
            tasks.c.payload.is_not(None),
        )
        .order_by(adapted_models.c.expires_at)
        .limit(limit)
        .with_for_update(of=tasks, skip_locked=True)
        .cte("expired")
    )
    open_now = tasks.c.status.in_(["queued", "running"])
    erased = await connection.execute(
        update(tasks)
        .where(tasks.c.id == expired.c.id)
        .values(
            payload=None,
            status=case((open_now, "cancelled"), else_=tasks.c.status),
            finished_at=func.coalesce(tasks.c.finished_at, func.now()),
        )
        .returning(tasks.c.id, tasks.c.attempt)
    )
    attempts = {row.id: row.attempt for row in erased}
    await connection.execute(update(results).where(results.c.task_id.in_(attempts)).values(predictions=null()))
    return attempts
