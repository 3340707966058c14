"""Aliases move in one place, which writes down every move; deleted checkpoints are on record and nothing else."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Expired, NotFound, PreconditionFailed
from kshot.contracts.ids import new_id
from kshot.storage.aliases import alias_history, get_alias, list_aliases
from kshot.storage.checkpoints import PRODUCTION, get_checkpoint, list_checkpoints, list_promoted, resolve
from kshot.storage.retention import delete_checkpoint
from tests.kshot.storage.registry import a_name, moved, registered, version_of


async def history(database: AsyncEngine, name: str) -> list[tuple[int, str, str]]:
    async with database.connect() as connection:
        return [
            (change.version, change.checkpoint, change.reason)
            for change in await alias_history(connection, name, PRODUCTION)
        ]


async def test_every_move_is_written_down_and_a_move_to_where_it_points_is_none(database: AsyncEngine):
    name = a_name()
    first, second = await registered(database, name), await registered(database, name)
    assert (await moved(database, name, first, "publish")).version == 1
    assert (await moved(database, name, first, "force", key="key_1")).version == 1
    there = await moved(database, name, second, "force", key="key_1")
    assert (there.checkpoint, there.version) == (second, 2)
    await moved(database, name, first, "rollback", alias="candidate")
    assert await history(database, name) == [(2, second, "force"), (1, first, "publish")]
    async with database.connect() as connection:
        assert (await alias_history(connection, name, PRODUCTION))[0].key == "key_1"
        assert {a.alias for a in await list_aliases(connection) if a.name == name} == {PRODUCTION, "candidate"}
        assert await alias_history(connection, name, "unknown") == []
        assert await get_alias(connection, name, "unknown") is None


async def test_a_move_from_a_version_that_passed_moves_nothing(database: AsyncEngine):
    name = a_name()
    first, second = await registered(database, name), await registered(database, name)
    with pytest.raises(PreconditionFailed):
        await moved(database, name, first, expected_version=1)
    await moved(database, name, first)
    await moved(database, name, second, expected_version=1)
    with pytest.raises(PreconditionFailed):
        await moved(database, name, first, expected_version=1)
    assert await history(database, name) == [(2, second, "set"), (1, first, "set")]


async def test_moves_at_once_make_one_history(database: AsyncEngine):
    name = a_name()
    checkpoints = [await registered(database, name) for _ in range(8)]
    await moved(database, name, checkpoints[0])
    await asyncio.gather(*(moved(database, name, checkpoint) for checkpoint in checkpoints[1:]))
    written = await history(database, name)
    assert [version for version, _, _ in written] == list(range(8, 0, -1))
    assert {checkpoint for _, checkpoint, _ in written} == set(checkpoints)
    wins = await asyncio.gather(
        *(
            moved(database, name, checkpoint, expected_version=8)
            for checkpoint in checkpoints
            if checkpoint != written[0][1]
        ),
        return_exceptions=True,
    )
    assert len([win for win in wins if not isinstance(win, PreconditionFailed)]) == 1
    assert await version_of(database, name) == 9


async def test_a_deleted_checkpoint_is_on_record_and_nothing_else(database: AsyncEngine):
    name = a_name()
    kept, gone = await registered(database, name), await registered(database, name)
    await moved(database, name, kept)
    async with database.begin() as connection:
        assert await delete_checkpoint(connection, gone)
        assert not await delete_checkpoint(connection, gone)
    async with database.connect() as connection:
        assert (await get_checkpoint(connection, gone, even_deleted=True)).deleted_at is not None
        for ask in (get_checkpoint(connection, gone), resolve(connection, gone)):
            with pytest.raises(Expired):
                await ask
        listed = [one.id for one in await list_checkpoints(connection, limit=1000, after=None)]
        assert kept in listed and gone not in listed
        assert gone not in [one.id for one in await list_promoted(connection)]
    with pytest.raises(Expired):
        await moved(database, name, gone)
    with pytest.raises(NotFound):
        await moved(database, name, new_id("ckpt"))
    assert await history(database, name) == [(1, kept, "set")]
