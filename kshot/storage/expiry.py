"""What deleted and expired models leave behind, and how it is erased. The rows of expired ones stay, so that a caller
reads 410 and not 404."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, case, delete, func, null, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import NotFound
from kshot.storage.flywheel_tables import adapted_model_history, feedback, recording
from kshot.storage.recording import recorded_since
from kshot.storage.tables import OPEN_TASK, adapted_models, predictions, results, seconds_from_now, tasks, tenants

_GRACE_S = 60.0  # longer than any transaction that still saw the model alive, and may be giving it more time
_OPEN = tasks.c.status.in_(OPEN_TASK)
_ERASED = {"predictions": null(), "state": null()}


async def delete_adapted_model(connection: AsyncConnection, tenant: str, id: str) -> dict[str, int]:
    """Delete: support set, feedback and every prediction are erased, open tasks cancelled.

    Returns its tasks with the attempts made: their states are to be deleted after the commit, and a sweep does so again
    for a process that died before. Raises NotFound.
    """
    # The tasks first, as workers and the reaper do: then neither can wait for the other, and once the rows are ours no
    # worker adds a result that we would not see. Of them the first one first, by a statement of its own: who moves the
    # alias that the model follows holds it, and the replay he queues is seen only by a statement that begins later.
    first = and_(tasks.c.adapted_model_id == id, tasks.c.tenant_id == tenant, ~tasks.c.background)
    await connection.execute(select(tasks.c.id).where(first).with_for_update())
    attempts = await _cancel(connection, [id], tasks.c.tenant_id == tenant, erase_support=True)
    deleted = await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id == id, adapted_models.c.tenant_id == tenant, adapted_models.c.deleted_at.is_(None))
        .values(
            deleted_at=func.now(),
            expires_at=func.now(),  # so that the sweep of expired ones comes by
            pinned=False,
            support_left=False,
            fingerprint=None,
            content_sha256=None,  # support_sha256 stays: it names the family (kshot/storage/recorded.py)
        )
    )
    if deleted.rowcount == 0:
        raise NotFound("no adapted model with this id")
    await _erase_predictions(connection, predictions.c.adapted_model_id == id)
    for table in (feedback, adapted_model_history):
        await connection.execute(delete(table).where(table.c.adapted_model_id == id))
    await connection.execute(update(results).where(results.c.task_id.in_(attempts)).values(_ERASED))
    return attempts


async def erase_states(connection: AsyncConnection, limit: int) -> dict[str, int]:
    """Erase answers of up to ``limit`` expired models, and cancel what nobody computed in time. Their support sets are
    for `erase_supports`.

    Returns their tasks, with the attempts made: the states of these are to be deleted before the transaction ends.
    Among them are deleted models, in case the process that deleted one died before its states were gone; and for the
    predictions that were under way when it was deleted, and recorded after that. What another process erases, claims or
    completes at the moment is left to the next turn.
    """
    over = and_(adapted_models.c.expires_at < seconds_from_now(-_GRACE_S), ~adapted_models.c.pinned)
    models = await _locked(connection, limit, over, adapted_models.c.state_erased_at.is_(None))
    attempts = await _cancel(connection, models)
    await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id.in_(models))
        .values(state_erased_at=func.now(), support_left=adapted_models.c.deleted_at.is_(None))
    )
    await connection.execute(update(results).where(results.c.task_id.in_(attempts)).values(_ERASED))
    deleted = select(adapted_models.c.id).where(
        adapted_models.c.id.in_(models), adapted_models.c.deleted_at.is_not(None)
    )
    await _erase_predictions(connection, predictions.c.adapted_model_id.in_(deleted))
    return attempts


async def erase_supports(connection: AsyncConnection, limit: int) -> int:
    """Erase support sets and feedback of up to ``limit`` models whose states are erased: those that are not recorded
    (kshot/storage/recording.py), or no longer. Returns how many.

    Of each tenant the oldest are looked at, in the order of ``ix_adapted_models_supports``: none that are recorded, and
    no tasks (`created_at` is theirs too).
    """
    until = func.coalesce(recorded_since(), func.now())
    left = (
        select(adapted_models.c.id)
        .where(adapted_models.c.tenant_id == tenants.c.id, adapted_models.c.support_left)
        .where(adapted_models.c.created_at <= until)
        .order_by(adapted_models.c.created_at)
        .limit(limit)
        .lateral()
    )
    who = tenants.outerjoin(recording, and_(recording.c.tenant_id == tenants.c.id, recording.c.enabled))
    found = await connection.scalars(select(left.c.id).select_from(who.join(left, true())).limit(limit))
    models = await _locked(connection, limit, adapted_models.c.id.in_(list(found)))
    erased = {"payload": None, "query": None}
    await connection.execute(update(tasks).where(tasks.c.adapted_model_id.in_(models)).values(erased))
    await connection.execute(update(feedback).where(feedback.c.adapted_model_id.in_(models)).values(payload=None))
    await connection.execute(
        update(adapted_models).where(adapted_models.c.id.in_(models)).values(support_left=False)
    )  # fmt: skip
    return len(models)


async def _erase_predictions(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    await connection.execute(update(predictions).where(which).values(predictions=[], inputs=None))


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
    """End the tasks of these models that are open, and erase the supports that nothing came of: such a task is never
    recorded. All their tasks, with the attempts made."""
    ended = await connection.execute(
        update(tasks)
        .where(tasks.c.adapted_model_id.in_(models), *which)
        .values(
            payload=null() if erase_support else case((_OPEN, null()), else_=tasks.c.payload),
            query=null(),
            status=case((_OPEN, "cancelled"), else_=tasks.c.status),
            finished_at=func.coalesce(tasks.c.finished_at, func.now()),
        )
        .returning(tasks.c.id, tasks.c.attempt)
    )
    return {row.id: row.attempt for row in ended}
