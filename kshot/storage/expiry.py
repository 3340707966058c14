"""What deleted and expired models leave behind, and how it is erased. The rows of expired ones stay, so that a caller
reads 410 and not 404."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, case, delete, func, null, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import NotFound
from kshot.storage.flywheel_tables import adapted_model_history, feedback, recording
from kshot.storage.recording import recorded_since
from kshot.storage.tables import adapted_models, predictions, results, seconds_from_now, tasks

_GRACE_S = 60.0  # longer than any transaction that still saw the model alive, and may be giving it more time
_OPEN = tasks.c.status.in_(["queued", "running"])


async def delete_adapted_model(connection: AsyncConnection, tenant: str, id: str) -> dict[str, int]:
    """Delete: support set, feedback and every prediction are erased, open tasks cancelled.

    Returns its tasks with the attempts made: their states are to be deleted after the commit, and a sweep does so again
    for a process that died before. Raises NotFound.
    """
    # The tasks first, as workers and the reaper do: then neither can wait for the other, and once the rows are ours no
    # worker adds a result that we would not see.
    attempts = await _cancel(connection, [id], tasks.c.tenant_id == tenant, erase_support=True)
    deleted = await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id == id, adapted_models.c.tenant_id == tenant, adapted_models.c.deleted_at.is_(None))
        .values(
            deleted_at=func.now(),
            expires_at=func.now(),  # so that the sweep of expired ones comes by
            pinned=False,
            fingerprint=None,
            content_sha256=None,
            support_sha256=None,
        )
    )
    if deleted.rowcount == 0:
        raise NotFound("no adapted model with this id")
    await connection.execute(
        update(predictions).where(predictions.c.adapted_model_id == id).values(predictions=[], inputs=None)
    )
    for table in (feedback, adapted_model_history):
        await connection.execute(delete(table).where(table.c.adapted_model_id == id))
    await connection.execute(update(results).where(results.c.task_id.in_(attempts)).values(predictions=null()))
    return attempts


async def erase_states(connection: AsyncConnection, limit: int) -> dict[str, int]:
    """Erase answers of up to ``limit`` expired models, and cancel what nobody computed in time.

    Returns their tasks, with the attempts made: the states of these are to be deleted before the transaction ends.
    Among them are deleted models, in case the process that deleted one died before its states were gone. What another
    process erases, claims or completes at the moment is left to the next turn.
    """
    over = and_(adapted_models.c.expires_at < seconds_from_now(-_GRACE_S), ~adapted_models.c.pinned)
    models = await _locked(connection, limit, over, adapted_models.c.state_erased_at.is_(None))
    attempts = await _cancel(connection, models)
    await connection.execute(
        update(adapted_models).where(adapted_models.c.id.in_(models)).values(state_erased_at=func.now())
    )
    await connection.execute(update(results).where(results.c.task_id.in_(attempts)).values(predictions=null()))
    return attempts


async def erase_supports(connection: AsyncConnection, limit: int) -> int:
    """Erase support sets and feedback of up to ``limit`` models whose states are erased: those that are not recorded
    (kshot/storage/recording.py), or no longer. Returns how many."""
    erased = adapted_models.c.state_erased_at.is_not(None)
    models = await _locked(connection, limit, erased, tasks.c.payload.is_not(None), ~_recorded())
    await connection.execute(update(tasks).where(tasks.c.adapted_model_id.in_(models)).values(payload=None))
    await connection.execute(update(feedback).where(feedback.c.adapted_model_id.in_(models)).values(payload=None))
    return len(models)


def _recorded() -> ColumnElement[bool]:
    return (
        select(true())
        .where(
            recording.c.tenant_id == adapted_models.c.tenant_id,
            recording.c.enabled,
            tasks.c.status == "succeeded",
            tasks.c.created_at > recorded_since(),
        )
        .correlate(adapted_models, tasks)
        .exists()
    )


async def _locked(connection: AsyncConnection, limit: int, *which: ColumnElement[bool]) -> Sequence[str]:
    """Models by their first tasks, which are held until the transaction ends; those that others hold are left out."""
    first = (
        select(adapted_models.c.id)
        .join(tasks, and_(tasks.c.adapted_model_id == adapted_models.c.id, ~tasks.c.background))
        .where(*which)
        .order_by(adapted_models.c.expires_at)
        .limit(limit)
        .with_for_update(of=tasks, skip_locked=True)
    )
    return list(await connection.scalars(first))


async def _cancel(
    connection: AsyncConnection, models: Sequence[str], *which: ColumnElement[bool], erase_support: bool = False
) -> dict[str, int]:
    """End the tasks of these models that are open. All their tasks, with the attempts made."""
    values = {"payload": None} if erase_support else {}
    ended = await connection.execute(
        update(tasks)
        .where(tasks.c.adapted_model_id.in_(models), *which)
        .values(
            **values,
            status=case((_OPEN, "cancelled"), else_=tasks.c.status),
            finished_at=func.coalesce(tasks.c.finished_at, func.now()),
        )
        .returning(tasks.c.id, tasks.c.attempt)
    )
    return {row.id: row.attempt for row in ended}
