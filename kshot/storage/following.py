"""Adapted models that follow an alias: their support sets are replayed on the checkpoint it moved to."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import Invalid
from kshot.contracts.following import learner_on
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.storage import revisions
from kshot.storage.tables import adapted_models, aliases, checkpoints, results, tasks

_AT_ONCE = 500
"""Models started in one transaction: the move of an alias must not wait for all of a hundred thousand."""


async def start_following(connection: AsyncConnection, name: str, alias: str, checkpoint: str) -> int:
    """In the transaction that moved ``name@alias`` to ``checkpoint``: queue the replays of the models that follow it.

    Returns how many were started; what is left (many models, or ones that are just changed) `catch_up` starts soon.
    """
    return await _start(connection, adapted_models.c.checkpoint_name == name, adapted_models.c.alias == alias)


async def catch_up(connection: AsyncConnection) -> int:
    """Start the models whose alias leads elsewhere than they were last taken, for whatever reason: they were still
    being made when it moved, or began to follow later, or were too many. Returns how many were started."""
    return await _start(connection)


async def _start(connection: AsyncConnection, *which: ColumnElement[bool]) -> int:
    led = func.coalesce(adapted_models.c.target_checkpoint_id, adapted_models.c.checkpoint_id)
    found = await connection.execute(
        select(adapted_models, aliases.c.checkpoint_id.label("target"))
        .join(
            aliases,
            (aliases.c.name == adapted_models.c.checkpoint_name) & (aliases.c.alias == adapted_models.c.alias),
        )
        .join(tasks, tasks.c.id == adapted_models.c.task_id)
        .where(
            adapted_models.c.follow,
            adapted_models.c.deleted_at.is_(None),
            or_(
                adapted_models.c.expires_at.is_(None),
                adapted_models.c.expires_at > func.now(),
                adapted_models.c.pinned,
            ),
            tasks.c.status == "succeeded",
            aliases.c.checkpoint_id != led,
            *which,
        )
        .order_by(adapted_models.c.id)
        .limit(_AT_ONCE)
        .with_for_update(of=adapted_models, skip_locked=True)
    )
    models = found.all()
    if not models:
        return 0
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


async def _supersede(connection: AsyncConnection, models: Sequence[str]) -> None:
    """Cancel the replays for where the alias led before. One that is being ended this moment is passed over (its lock
    is taken before the model's, which is ours): it will find that the model wants it no more."""
    open_now = (
        select(tasks.c.id)
        .where(
            tasks.c.adapted_model_id.in_(models), tasks.c.background, tasks.c.status.in_(["queued", "running"])
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
            }
        )
    if rows:
        await connection.execute(insert(tasks).values(rows))


async def _manifests(connection: AsyncConnection, ids: set[str]) -> dict[str, Manifest]:
    rows = await connection.execute(select(checkpoints.c.id, checkpoints.c.manifest).where(checkpoints.c.id.in_(ids)))
    return {row.id: Manifest.model_validate(row.manifest) for row in rows}
