"""The states of an adapted model, one after the other: which one answers, and why.

A model has the one state of the task that made it for ever, unless it follows an alias. Whoever needs locks takes the
task's before the model's, as everywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Expired, NotFound
from kshot.contracts.following import Outcome, is_worse, is_worse_over_all
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Failure, Quality
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.feedback import renew_observed
from kshot.storage.fingerprints import renew_fingerprint
from kshot.storage.flywheel_tables import adapted_model_history as history
from kshot.storage.results import NewResult, insert_result
from kshot.storage.tables import adapted_models, results, tasks
from kshot.storage.tasks import Claim, fail, finish

STATES_KEPT = 3
"""States of one model that are kept: the one that answers and, to go back to, those before it."""


@dataclass(frozen=True)
class Revision:
    """A line of a model's history. ``revision``: the one that answers from then on; ``checkpoint``: the one tried."""

    id: str
    revision: int
    checkpoint: str
    at: datetime
    outcome: Outcome
    quality: Quality | None
    previous_quality: Quality | None
    reason: str


@dataclass(frozen=True)
class Replayed:
    """``counts``: the replay was still ours to end. ``unneeded``: states to be deleted after the commit."""

    counts: bool
    unneeded: tuple[str, ...] = ()


async def complete_replay(connection: AsyncConnection, claim: Claim, result: NewResult) -> Replayed:
    """End a replay: the model answers with the new state, unless that is worse, or the alias has moved on since."""
    if not await finish(connection, claim, status="succeeded", failure=None):
        return Replayed(counts=False)
    assert claim.checkpoint is not None and claim.learner is not None
    model = await lock_model(connection, claim.adapted_model)
    if not _still_wanted(model, claim.checkpoint) or await _is_deleted(connection, claim.checkpoint):
        return Replayed(counts=True, unneeded=_keys([result.object_key]))
    if _is_worse(model, result):
        reason = "its own examples, left out, are answered worse than by the state before"
        await note(connection, model, "kept", claim.checkpoint, reason, quality=result.quality)
        return Replayed(counts=True, unneeded=_keys([result.object_key]))
    await insert_result(connection, claim.task_id, claim.adapted_model, result)
    reason = f"{model.checkpoint_name}@{model.alias} moved here"
    await switch(connection, model, claim.task_id, claim.checkpoint, claim.learner, reason, result.quality)
    return Replayed(counts=True, unneeded=await _drop_old_states(connection, claim.task_id, model))


async def fail_replay(connection: AsyncConnection, claim: Claim, failure: Failure) -> bool:
    """End a replay that could not be computed. False: the lease was lost, and nothing was written."""
    if not await fail(connection, claim, failure):
        return False
    assert claim.checkpoint is not None
    await note_failure(connection, claim.adapted_model, claim.checkpoint, failure.message)
    return True


async def note_failure(connection: AsyncConnection, model_id: str, checkpoint: str, reason: str) -> None:
    """Write down that a model could not be made on a checkpoint and stays as it is."""
    model = await lock_model(connection, model_id)
    if _still_wanted(model, checkpoint):
        await note(connection, model, "failed", checkpoint, reason)


async def lock_model(connection: AsyncConnection, id: str) -> Row[Any]:
    """A model, held until the transaction ends, with what is known of the state that answers.

    In two statements: one that waits while another lets the model go over to another task would join the row as it is
    then with the tasks as they were before, and find nothing.
    """
    mine = select(adapted_models.c.id).where(adapted_models.c.id == id)
    await connection.execute(mine.with_for_update(key_share=True))
    found = await connection.execute(
        select(adapted_models, results.c.quality, results.c.qualities, tasks.c.finished_at)
        .join(tasks, tasks.c.id == adapted_models.c.task_id)
        .outerjoin(results, results.c.task_id == tasks.c.id)
        .where(adapted_models.c.id == id)
    )
    return found.one()


async def switch(
    connection: AsyncConnection,
    model: Row[Any],
    task_id: str,
    checkpoint: str,
    learner: str,
    reason: str,
    quality: Quality | None,
) -> None:
    """Let a task's state answer from now on. ``model``: as `lock_model` has it."""
    await note(connection, model, "followed", checkpoint, reason, quality=quality, revision=model.revision + 1)
    await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id == model.id)
        .values(task_id=task_id, checkpoint_id=checkpoint, learner=learner, revision=model.revision + 1)
    )
    await renew_fingerprint(connection, model.id)
    await renew_observed(connection, model.id)


async def note(
    connection: AsyncConnection,
    model: Row[Any],
    outcome: Outcome,
    checkpoint: str,
    reason: str,
    *,
    quality: Quality | None = None,
    revision: int | None = None,
) -> None:
    """Add a line to a model's history; before its first, the line of how it was made."""
    lines = [
        {
            "id": new_id("evt"),
            "adapted_model_id": model.id,
            "revision": revision or model.revision,
            "checkpoint_id": checkpoint,
            "outcome": outcome,
            "quality": null() if quality is None else quality.model_dump(),
            "previous_quality": null() if model.quality is None else model.quality,
            "reason": reason,
        }
    ]
    if not await connection.scalar(select(exists().where(history.c.adapted_model_id == model.id))):
        await connection.execute(insert(history).values(_made_line(model)))
    await connection.execute(insert(history).values(lines))


async def list_revisions(connection: AsyncConnection, model: AdaptedModel) -> list[Revision]:
    """A model's history, newest first; of one that never was to move, the line of how it was made."""
    rows = await connection.execute(
        select(history).where(history.c.adapted_model_id == model.id).order_by(history.c.at.desc(), history.c.id.desc())
    )
    found = [
        Revision(
            row.id,
            row.revision,
            row.checkpoint_id,
            row.at,
            row.outcome,
            _quality(row.quality),
            _quality(row.previous_quality),
            row.reason,
        )
        for row in rows
    ]
    if found or model.status != "succeeded":
        return found
    made = (await connection.execute(select(tasks.c.finished_at).where(tasks.c.id == model.task_id))).scalar_one()
    return [
        Revision(_made_id(model.task_id), 1, model.made_with.id, made, "made", _quality(model.quality), None, _MADE)
    ]


_MADE = "adapted to its support set"


def _made_id(task_id: str) -> str:
    """Of the line of how a model was made: the same whether that is written down yet or not."""
    return f"evt_{task_id.partition('_')[2]}"


def _made_line(model: Row[Any]) -> dict[str, Any]:
    return {
        "id": _made_id(model.task_id),
        "adapted_model_id": model.id,
        "revision": model.revision,
        "checkpoint_id": model.checkpoint_id,
        "outcome": "made",
        "quality": null() if model.quality is None else model.quality,
        "previous_quality": null(),
        "reason": _MADE,
        "at": model.finished_at,
    }


def _still_wanted(model: Row[Any], checkpoint: str) -> bool:
    return bool(model.follow and model.deleted_at is None and model.target_checkpoint_id == checkpoint)


async def _is_deleted(connection: AsyncConnection, checkpoint: str) -> bool:
    """Whether a checkpoint is gone; where it is not, it stays until the transaction ends."""
    try:
        await hold_checkpoint(connection, checkpoint)
    except (NotFound, Expired):
        return True
    return False


def _is_worse(model: Row[Any], result: NewResult) -> bool:
    if model.qualities is not None:
        return is_worse_over_all([_quality(one) for one in model.qualities], result.qualities)
    return is_worse(_quality(model.quality), result.quality)


async def _drop_old_states(connection: AsyncConnection, now: str, model: Row[Any]) -> tuple[str, ...]:
    """Forget the oldest states past ``STATES_KEPT``; a call that is under way may still need the one before."""
    in_use = tasks.c.id.in_([now, model.task_id])
    kept = await connection.scalars(
        select(tasks.c.id)
        .join(results, results.c.task_id == tasks.c.id)
        .where(tasks.c.adapted_model_id == model.id)
        .order_by(in_use.desc(), tasks.c.finished_at.desc())
        .limit(STATES_KEPT)
    )
    mine: Sequence[str] = list(kept)
    dropped = await connection.scalars(
        delete(results)
        .where(
            results.c.task_id == tasks.c.id,
            tasks.c.adapted_model_id == model.id,
            tasks.c.id.not_in(mine),
        )
        .returning(results.c.object_key)
    )
    return _keys(dropped)


def _keys(found: Iterable[str | None]) -> tuple[str, ...]:
    """Of the states that lie in the object store; the others lie in their rows."""
    return tuple(key for key in found if key is not None)


def _quality(stored: dict[str, Any] | None) -> Quality | None:
    return None if stored is None else Quality.model_validate(stored, strict=False)
