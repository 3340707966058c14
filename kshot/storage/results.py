"""What a completed adaptation leaves in the database: answers, quality, and its state where that is small."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict
from kshot.contracts.selection import CheckpointRef, Selection
from kshot.contracts.tasks import Quality, Timings
from kshot.storage.adapted_models import get_adapted_model
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.tables import adapted_models, results, tasks

INLINE_BYTES = 64 * 1024
"""States up to this size lie in their row: no file, no fsync of file and folder, and one query reads a cold model."""


@dataclass(frozen=True)
class Chosen:
    """The checkpoint a worker chose for a task that left it open, the learner, and the shape of one input there."""

    checkpoint: CheckpointRef
    learner: str
    input_shape: tuple[int, ...]
    selection: Selection


@dataclass(frozen=True)
class NewResult:
    """What a completed adaptation leaves: the state, or its place in the object store, and the answer's parts.

    ``qualities``: one for each target, where there are several. ``payload``: what is kept of the task's payload, which
    is neither what was asked nor the forms for other checkpoints; None where it is to stay as it is.
    """

    object_key: str | None
    object_sha256: str
    quality: Quality | None
    predictions: list[dict[str, Any]] | None
    timings: Timings
    state: bytes | None = None
    payload: bytes | None = None
    qualities: Sequence[Quality | None] = ()
    chosen: Chosen | None = None


async def get_support(connection: AsyncConnection, tenant: str, id: str) -> bytes:
    """The payload (contracts.tasks.Payload) the model was adapted from."""
    await get_adapted_model(connection, tenant, id)
    first = select(tasks.c.payload).where(tasks.c.adapted_model_id == id, ~tasks.c.background)
    payload: bytes | None = await connection.scalar(first)
    if payload is None:
        raise Conflict("the examples of this adapted model are no longer stored; adapt again from them")
    return payload


async def insert_result(connection: AsyncConnection, task_id: str, adapted_model: str, result: NewResult) -> None:
    """Insert a task's one result row, and write down the checkpoint that was chosen for it.

    Raises Expired where that was deleted meanwhile.
    """
    chosen = result.chosen
    if chosen is not None:
        await _set_checkpoint(connection, task_id, adapted_model, chosen)
    await connection.execute(
        insert(results).values(
            task_id=task_id,
            object_key=result.object_key,
            object_sha256=result.object_sha256,
            state=result.state,
            quality=_plain(result.quality),
            qualities=[_plain(quality) for quality in result.qualities] or null(),
            selection=null() if chosen is None else chosen.selection.model_dump(mode="json"),
            predictions=result.predictions,
            timings=result.timings.model_dump(),
        )
    )


async def _set_checkpoint(connection: AsyncConnection, task_id: str, adapted_model: str, chosen: Chosen) -> None:
    checkpoint = chosen.checkpoint
    await hold_checkpoint(connection, checkpoint.id)  # it may have been deleted since it was offered
    made_with = {"checkpoint_id": checkpoint.id, "learner": chosen.learner}
    await connection.execute(update(tasks).where(tasks.c.id == task_id).values(**made_with))
    await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id == adapted_model)
        .values(
            checkpoint_id=checkpoint.id,
            checkpoint_name=checkpoint.name,
            alias=checkpoint.alias,
            learner=chosen.learner,
            input_shape=list(chosen.input_shape),
        )
    )


def _plain(quality: Quality | None) -> dict[str, Any] | None:
    return None if quality is None else quality.model_dump()
