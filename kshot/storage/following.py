"""Adapted models that follow an alias: their support sets are replayed on the checkpoint it moved to."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, func, or_, select, true, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import Invalid
from kshot.contracts.following import learner_on
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.storage import revisions
from kshot.storage.tables import OPEN_TASK, adapted_models, aliases, checkpoints, results, tasks

_AT_ONCE = 500
"""Models started in one transaction: the move of an alias must not wait for all of a hundred thousand. With so many
replays open no more are started either: they come from the table as fast as workers end them, and it stays small."""
_CATCH_UP_LOCK = 0x6B666F6C6C  # "kfoll"

_LED = func.coalesce(adapted_models.c.target_checkpoint_id, adapted_models.c.checkpoint_id)
_ITS_ALIAS = and_(aliases.c.name == adapted_models.c.checkpoint_name, aliases.c.alias == adapted_models.c.alias)
_FOLLOWS = and_(
    adapted_models.c.follow,
    adapted_models.c.deleted_at.is_(None),
    adapted_models.c.state_erased_at.is_(None),
    or_(adapted_models.c.expires_at.is_(None), adapted_models.c.expires_at > func.now(), adapted_models.c.pinned),
)


async def start_following(connection: AsyncConnection, name: str, alias: str) -> int:
    """In the transaction that moved ``name@alias``: queue the replays of the models that follow it.

    Returns how many were started; what is left (many models, or ones that are just changed) `catch_up` starts soon.
    """
    return await _start(connection, _AT_ONCE, aliases.c.name == name, aliases.c.alias == alias)


async def catch_up(connection: AsyncConnection) -> int:
    """Start the models whose alias leads elsewhere than they were last taken, for whatever reason: they were still
    being made when it moved, or began to follow later, or were too many; no more than keeps ``_AT_ONCE`` replays open.
    One caller at a time (advisory lock). Returns how many were started."""
    if not await connection.scalar(select(func.pg_try_advisory_xact_lock(_CATCH_UP_LOCK))):
        return 0
    open_now = select(tasks.c.id).where(tasks.c.status.in_(OPEN_TASK), tasks.c.background).limit(_AT_ONCE)
    n_open = int(await connection.scalar(select(func.count()).select_from(open_now.subquery())) or 0)
    return await _start(connection, _AT_ONCE - n_open) if n_open < _AT_ONCE else 0


async def _start(connection: AsyncConnection, limit: int, *which: ColumnElement[bool]) -> int:
    """Of up to ``limit`` models."""
    wanted: Sequence[str] = (await connection.scalars(_led_elsewhere(limit, *which))).all()
    if not wanted:
        return 0
    found = await connection.execute(_locked(wanted))
    models = found.all()
    await _supersede(connection, [model.id for model in models])
    for target in {model.target for model in models}:
        led_there = [model.id for model in models if model.target == target]
        await connection.execute(
            update(adapted_models).where(adapted_models.c.id.in_(led_there)).values(target_checkpoint_id=target)
        )
    moving = [model for model in models if model.target != model.checkpoint_id]
    returned = await _go_back(connection, moving)
    await _queue(connection, [model for model in moving if model.id not in returned])
    return len(moving)


def _led_elsewhere(limit: int, *which: ColumnElement[bool]) -> Select[str]:
    """Ids of models that were last led elsewhere than their alias leads: below it in ``ix_adapted_models_following``,
    or above. Asked so, and in its order, the index answers; nearly all are where they should be, and are not visited.
    """

    def side(elsewhere: ColumnElement[bool]) -> Select[str]:
        return (
            select(adapted_models.c.id)
            .join(tasks, tasks.c.id == adapted_models.c.task_id)
            .where(_ITS_ALIAS, _FOLLOWS, elsewhere, tasks.c.status == "succeeded")
            .order_by(_LED)
            .limit(limit)
            .correlate(aliases)
        )

    sides = union_all(side(aliases.c.checkpoint_id > _LED), side(aliases.c.checkpoint_id < _LED)).lateral()
    return select(sides.c.id).select_from(aliases.join(sides, true())).where(*which).limit(limit)


def _locked(ids: Sequence[str]) -> Select[Any]:
    """Models that still are to be led elsewhere once they are locked. With their first tasks, which hold the support:
    whoever deletes a model locks that one first, and must see the replays that are queued here, or none be queued."""
    return (
        select(adapted_models, aliases.c.checkpoint_id.label("target"))
        .join(aliases, _ITS_ALIAS)
        .join(tasks, and_(tasks.c.adapted_model_id == adapted_models.c.id, ~tasks.c.background))
        .where(adapted_models.c.id.in_(ids), _FOLLOWS, aliases.c.checkpoint_id != _LED)
        .order_by(adapted_models.c.id)
        .with_for_update(of=[adapted_models, tasks], key_share=True, skip_locked=True)
    )


async def _supersede(connection: AsyncConnection, models: Sequence[str]) -> None:
    """Cancel the replays for where the alias led before. One that is being ended this moment is passed over (its lock
    is taken before the model's, which is ours): it will find that the model wants it no more."""
    open_now = (
        select(tasks.c.id)
        .where(
            tasks.c.adapted_model_id.in_(models), tasks.c.background, tasks.c.status.in_(OPEN_TASK)
        )
        .with_for_update(skip_locked=True)
    )  # fmt: skip
    await connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(open_now))
        .values(status="cancelled", finished_at=func.clock_timestamp(), lease_until=None)
    )


async def _go_back(connection: AsyncConnection, models: Sequence[Row[Any]]) -> set[str]:
    """Let the models whose alias came back to a checkpoint they have answered with do so again, with that very state.
    Returns their ids."""
    kept = await connection.execute(
        select(tasks.c.adapted_model_id, tasks.c.checkpoint_id, tasks.c.id, tasks.c.learner, results.c.quality)
        .join(results, results.c.task_id == tasks.c.id)
        .where(tasks.c.adapted_model_id.in_([model.id for model in models]))
    )
    states = {(row.adapted_model_id, row.checkpoint_id): row for row in kept}
    returned = set()
    for model in models:
        state = states.get((model.id, model.target))
        if state is not None:
            reason = f"{model.checkpoint_name}@{model.alias} came back; it answers as it did there before"
            quality = None if state.quality is None else Quality.model_validate(state.quality, strict=False)
            held = await revisions.lock_model(connection, model.id)
            await revisions.switch(connection, held, state.id, model.target, state.learner, reason, quality)
            returned.add(model.id)
    return returned


async def _queue(connection: AsyncConnection, models: Sequence[Row[Any]]) -> None:
    """Record a task for each model that can be made on its target; write down why the others cannot."""
    manifests = await _manifests(connection, {one for model in models for one in (model.checkpoint_id, model.target)})
    rows = []
    for model in models:
        old, new = manifests[model.checkpoint_id], manifests[model.target]
        options = LearnerOptions.model_validate(model.options, strict=False)
        try:
            learner = learner_on(new, old.input, options, model.task, model.input_shape, old.n_targets)
        except Invalid as error:
            await revisions.note_failure(connection, model.id, model.target, error.message)
            continue
        rows.append(
            {
                "id": new_id("task"),
                "tenant_id": model.tenant_id,
                "adapted_model_id": model.id,
                "checkpoint_id": model.target,
                "learner": learner,
                "background": True,
                "payload_version": _version_of_first(model.id),
            }
        )
    if rows:
        await connection.execute(insert(tasks).values(rows))


def _version_of_first(model: str) -> ScalarSelect[int]:
    """Of the payload that a replay of the model replays."""
    first = tasks.alias()
    return (
        select(first.c.payload_version).where(first.c.adapted_model_id == model, ~first.c.background).scalar_subquery()
    )


async def _manifests(connection: AsyncConnection, ids: set[str]) -> dict[str, Manifest]:
    rows = await connection.execute(select(checkpoints.c.id, checkpoints.c.manifest).where(checkpoints.c.id.in_(ids)))
    return {row.id: Manifest.model_validate(row.manifest) for row in rows}
