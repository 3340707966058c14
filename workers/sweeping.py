"""Retention: what nobody needs and was kept for its time goes. Any worker does it, one at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage import retention
from kshot.storage.database import take_time
from kshot.storage.datasets import forget_object, objects_left
from kshot.storage.objects import ObjectStore

_AT_ONCE = 50
_PREDICTIONS_AT_ONCE = 5000

_log = structlog.get_logger()


@dataclass(frozen=True)
class Keep:
    """For how many days recorded predictions are kept, and checkpoints of jobs that nobody promoted."""

    prediction_days: float = 30
    checkpoint_days: float = 30


async def sweep(database: AsyncEngine, objects: ObjectStore, keep: Keep) -> None:
    """Delete what is older than it is kept and needed by nothing, one worker at a time; remove files half-written.

    What one turn could not finish the next one finds again.
    """
    async with database.begin() as turn:
        if not await retention.sweeps_alone(turn):
            return
        await take_time(turn)
        await _sweep_store(objects)
        predictions = await _delete_predictions(database, keep.prediction_days * retention.DAY_S)
        unpromoted = await _delete_unpromoted(database, keep.checkpoint_days * retention.DAY_S)
        weights = await clear_checkpoints(database, objects)
        await clear_datasets(database, objects)
        async with database.begin() as connection:
            events = await retention.delete_old_events(connection, keep.checkpoint_days * retention.DAY_S)
    _log.info("swept", predictions=predictions, checkpoints=unpromoted, weights=weights, job_events=events)


async def _sweep_store(objects: ObjectStore) -> None:
    try:
        await asyncio.to_thread(objects.sweep)
    except OSError as error:  # a bucket may not let us: that is no reason to keep what is too old
        _log.warning("store_not_swept", error=error.strerror)


async def clear_checkpoints(database: AsyncEngine, objects: ObjectStore) -> int:
    """Remove the weights of deleted checkpoints; returns how many it were."""
    cleared, found = 0, _AT_ONCE
    while found == _AT_ONCE:
        async with database.begin() as connection:
            stored = await retention.deleted_with_weights(connection, _AT_ONCE)
            gone = await asyncio.to_thread(_delete_all, objects, stored)
            await retention.weights_are_gone(connection, gone)
        found = len(gone)
        cleared += found
    return cleared


async def clear_datasets(database: AsyncEngine, objects: ObjectStore) -> None:
    """Remove the files of deleted data sets that the front end, ending between the two, left there."""
    async with database.begin() as connection:
        left = await objects_left(connection, limit=_AT_ONCE)
        stored = [retention.Stored(dataset, key) for dataset, key in left.items()]
        for dataset in await asyncio.to_thread(_delete_all, objects, stored):
            await forget_object(connection, dataset)


async def _delete_predictions(database: AsyncEngine, older_than_s: float) -> int:
    total, found = 0, _PREDICTIONS_AT_ONCE
    while found == _PREDICTIONS_AT_ONCE:
        async with database.begin() as connection:
            found = await retention.delete_old_predictions(connection, older_than_s, _PREDICTIONS_AT_ONCE)
        total += found
    return total


async def _delete_unpromoted(database: AsyncEngine, older_than_s: float) -> int:
    total, found = 0, _AT_ONCE
    while found == _AT_ONCE:
        async with database.begin() as connection:
            deleted = await retention.delete_unpromoted(connection, older_than_s, _AT_ONCE)
        for checkpoint in deleted:
            _log.info("checkpoint_deleted", checkpoint=checkpoint)
        found = len(deleted)
        total += found
    return total


def _delete_all(objects: ObjectStore, stored: Sequence[retention.Stored]) -> list[str]:
    """Delete objects; returns whose are gone. One that cannot be deleted keeps no other from it."""
    gone = []
    for each in stored:
        try:
            objects.delete(each.object_key)
            gone.append(each.id)
        except OSError as error:
            _log.warning("not_deleted", id=each.id, error=error.strerror)
    return gone
