"""What may go and what must stay: checkpoints nobody uses, old predictions, what finished jobs leave.

A checkpoint goes in two steps. One transaction, holding its row, makes sure that nothing needs it and marks it deleted;
weights are removed after that commit, and a second transaction notes that they are gone. A crash in between leaves
weights that the next sweep finds by the mark. Removing them first, as `expiry` does with the states of expired models,
would be wrong here: were the commit to fail, a checkpoint in use would have lost its weights.

Whoever is about to use a checkpoint holds it (`checkpoints.hold_checkpoint`) in the transaction that writes so: either
that comes first, and the deletion sees the user, or the deletion does, and the user is refused.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.jobs import OPEN_STATUSES
from kshot.storage.aliases import AliasChange
from kshot.storage.promotions import OPEN as OPEN_PROMOTIONS
from kshot.storage.tables import OPEN_TASK, adapted_models, aliases, checkpoints, predictions, seconds_from_now, tasks
from kshot.storage.training_tables import alias_history, job_events, promotions, training_jobs

DAY_S = 24 * 3600.0
_SWEEP_LOCK = 0x6B73776570  # "kswep"
_GRACE_S = 60.0  # as in `expiry`: longer than any transaction that still saw a model alive, and may give it more time
_MOST_NAMED = 5


@dataclass(frozen=True)
class Stored:
    """Something in the object store that is to go, and the row it belongs to."""

    id: str
    object_key: str


async def sweeps_alone(connection: AsyncConnection) -> bool:
    """Whether nobody else is sweeping; until the transaction ends, nobody else will."""
    return bool(await connection.scalar(select(func.pg_try_advisory_xact_lock(_SWEEP_LOCK))))


async def delete_checkpoint(connection: AsyncConnection, id: str) -> bool:
    """Mark a checkpoint deleted; its weights are to be removed after the commit (`deleted_with_weights`). False where
    it was deleted before.

    Raises NotFound; Conflict saying who uses it.
    """
    row = (
        await connection.execute(
            select(checkpoints.c.deleted_at).where(checkpoints.c.id == id).with_for_update()
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        raise NotFound("no such checkpoint; GET /v1/checkpoints lists them", param="checkpoint")
    if row.deleted_at is not None:
        return False
    if users := await _users(connection, id):
        raise Conflict(f"in use by {'; '.join(users)}")
    await connection.execute(update(checkpoints).where(checkpoints.c.id == id).values(deleted_at=func.now()))
    return True


async def delete_unpromoted(connection: AsyncConnection, older_than_s: float, limit: int) -> list[str]:
    """Mark up to ``limit`` checkpoints deleted that jobs made so long ago and that nothing needs; returns their ids.

    Kept are what an alias points at, what a rollback would bring back, and what an alias has left since.
    """
    kept = await _kept_by_aliases(connection, older_than_s)
    candidates = _unpromoted(older_than_s, kept).order_by(checkpoints.c.created_at).limit(limit)
    locked = list(await connection.scalars(candidates.with_for_update(skip_locked=True)))
    # Once more, now that nobody can begin to use them: the first look may not have seen what was committed meanwhile.
    kept = await _kept_by_aliases(connection, older_than_s)
    unused = [*await connection.scalars(_unpromoted(older_than_s, kept).where(checkpoints.c.id.in_(locked)))]
    await connection.execute(update(checkpoints).where(checkpoints.c.id.in_(unused)).values(deleted_at=func.now()))
    return unused


async def deleted_with_weights(connection: AsyncConnection, limit: int, id: str | None = None) -> list[Stored]:
    """Deleted checkpoints (or the one of this id) whose weights are still there, held: nobody stores them anew before
    the transaction ends."""
    query = select(checkpoints.c.id, checkpoints.c.object_key).where(
        checkpoints.c.deleted_at.is_not(None), checkpoints.c.bytes > 0
    )
    if id is not None:
        query = query.where(checkpoints.c.id == id)
    rows = await connection.execute(query.limit(limit).with_for_update(skip_locked=True))
    return [Stored(row.id, row.object_key) for row in rows]


async def weights_are_gone(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Note it, in the transaction that holds these rows."""
    await connection.execute(update(checkpoints).where(checkpoints.c.id.in_(ids)).values(bytes=0))


async def delete_old_predictions(connection: AsyncConnection, older_than_s: float, limit: int) -> int:
    """Delete up to ``limit`` recorded predictions made so long ago; returns how many it were."""
    old = (
        select(predictions.c.id)
        .where(predictions.c.created_at < seconds_from_now(-older_than_s))
        .order_by(predictions.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await connection.execute(delete(predictions).where(predictions.c.id.in_(old)))).rowcount


async def delete_old_events(connection: AsyncConnection, older_than_s: float) -> int:
    """Delete the events of jobs that ended so long ago; the jobs stay. Returns how many events it were."""
    ended = select(training_jobs.c.id).where(
        training_jobs.c.finished_at < seconds_from_now(-older_than_s), ~_open_job()
    )
    return (await connection.execute(delete(job_events).where(job_events.c.job_id.in_(ended)))).rowcount


def rollback_target(changes: Sequence[AliasChange]) -> AliasChange | None:
    """What a rollback brings back; ``changes``: an alias's history, newest first.

    A rollback takes steps back for good: after A, B and a rollback to A nothing is left to roll back to, so that
    sending it twice does not end at B again.
    """
    steps: list[AliasChange] = []
    for change in reversed(changes):
        if change.reason == "rollback":
            places = [i for i, step in enumerate(steps) if step.checkpoint == change.checkpoint]
            steps = steps[: places[-1]] if places else steps
        steps.append(change)
    return steps[-2] if len(steps) > 1 else None


async def _users(connection: AsyncConnection, id: str) -> list[str]:
    """Who needs a checkpoint, in words."""
    named = await connection.execute(
        select(aliases.c.name, aliases.c.alias).where(aliases.c.checkpoint_id == id).order_by(*aliases.primary_key)
    )
    users = [f"the alias {row.name}@{row.alias} (point it at another checkpoint first)" for row in named]
    models = await connection.scalar(select(func.count()).where(_live_model(id)))
    if models:
        users.append(f"{models} adapted model{'s' if models > 1 else ''}")
    running = await connection.scalar(select(func.count()).where(_open_task(id)))
    if running:
        users.append(f"{running} adaptation{'s' if running > 1 else ''} under way")
    jobs = await connection.scalars(select(training_jobs.c.id).where(_beginning_job(id)).limit(_MOST_NAMED))
    users += [f"the training job {job}" for job in jobs]
    comparing = await connection.scalars(select(promotions.c.id).where(_open_promotion(id)).limit(_MOST_NAMED))
    return users + [f"the promotion {promotion}" for promotion in comparing]


def _unpromoted(older_than_s: float, kept: Collection[str]) -> Select[Any]:
    own = checkpoints.c.id
    return select(own).where(
        checkpoints.c.job_id.is_not(None),
        checkpoints.c.deleted_at.is_(None),
        checkpoints.c.created_at < seconds_from_now(-older_than_s),
        own.not_in(kept) if kept else true(),
        ~exists().where(aliases.c.checkpoint_id == own),
        ~exists().where(_live_model(own)),
        ~exists().where(_open_task(own)),
        ~exists().where(_beginning_job(own)),
        ~exists().where(_open_promotion(own)),
    )


def _live_model(checkpoint: str | ColumnElement[str]) -> ColumnElement[bool]:
    alive = or_(
        adapted_models.c.expires_at.is_(None),
        adapted_models.c.expires_at > seconds_from_now(-_GRACE_S),
        adapted_models.c.pinned,
    )
    return and_(adapted_models.c.checkpoint_id == checkpoint, adapted_models.c.deleted_at.is_(None), alive)


def _open_task(checkpoint: str | ColumnElement[str]) -> ColumnElement[bool]:
    return and_(tasks.c.checkpoint_id == checkpoint, tasks.c.status.in_(OPEN_TASK))


def _open_job() -> ColumnElement[bool]:
    return training_jobs.c.status.in_(OPEN_STATUSES)


def _beginning_job(checkpoint: str | ColumnElement[str]) -> ColumnElement[bool]:
    return and_(training_jobs.c.base_checkpoint_id == checkpoint, _open_job())


def _open_promotion(checkpoint: str | ColumnElement[str]) -> ColumnElement[bool]:
    either = or_(promotions.c.challenger_id == checkpoint, promotions.c.incumbent_id == checkpoint)
    return and_(either, promotions.c.status.in_(OPEN_PROMOTIONS))


async def _kept_by_aliases(connection: AsyncConnection, older_than_s: float) -> set[str]:
    """What a rollback of some alias would bring back, or an alias pointed at within the last ``older_than_s``."""
    since: datetime = (await connection.scalar(select(seconds_from_now(-older_than_s)))) or datetime.max
    rows = await connection.execute(select(alias_history).order_by(alias_history.c.version.desc()))
    histories: Mapping[tuple[str, str], list[AliasChange]] = defaultdict(list)
    for row in rows:
        change = AliasChange(row.version, row.checkpoint_id, row.at, row.reason, row.promotion_id, row.key_id)
        histories[row.name, row.alias].append(change)
    kept: set[str] = set()
    for changes in histories.values():
        target = rollback_target(changes)
        left = [before.checkpoint for after, before in pairwise(changes) if after.at > since]
        kept |= {change.checkpoint for change in (*changes[:2], *([target] if target else []))} | set(left)
    return kept
