"""What runs every few seconds is answered by indices, however many models there are and were."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.storage.admission import count_open
from kshot.storage.aliases import move_alias
from kshot.storage.expiry import erase_states, erase_supports
from kshot.storage.following import catch_up
from kshot.storage.tables import DEFAULT_TENANT

LED = "COALESCE(target_checkpoint_id, checkpoint_id)"


@pytest.mark.parametrize(
    ("sweep", "conditions"),
    [
        (catch_up, (f"({LED} < aliases.checkpoint_id)", f"({LED} > aliases.checkpoint_id)")),
        (lambda connection: erase_states(connection, 50), ("ix_adapted_models_expiry",)),
        (lambda connection: erase_supports(connection, 50), ("tenant_id = tenants.id) AND (created_at <=",)),
        (lambda connection: count_open(connection, DEFAULT_TENANT), ("Index Cond: (background = false)",)),
    ],
    ids=["catch_up", "erase_states", "erase_supports", "count_open"],
)
async def test_an_index_answers(
    database: AsyncEngine,
    checkpoint: str,
    sweep: Callable[[AsyncConnection], Awaitable[Any]],
    conditions: tuple[str, ...],
):
    async with database.begin() as connection:
        await move_alias(connection, "plain", "production", checkpoint, "set")
    statements = await statements_of(database, sweep)
    plans = "\n".join([await plan(database, *statement) for statement in statements])
    used = [line for line in plans.splitlines() if "Index Cond" in line or "Index Scan" in line]
    for condition in conditions:
        assert any(condition in line for line in used), plans


async def statements_of(
    database: AsyncEngine, sweep: Callable[[AsyncConnection], Awaitable[Any]]
) -> list[tuple[str, Any]]:
    """What it sends when there is nothing to do."""
    sent: list[tuple[str, Any]] = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(database.sync_engine, "before_cursor_execute", hear)
    try:
        async with database.connect() as connection:
            await sweep(connection)
            await connection.rollback()
    finally:
        event.remove(database.sync_engine, "before_cursor_execute", hear)
    return sent


async def plan(database: AsyncEngine, statement: str, parameters: Any) -> str:
    """As for a table too large to be read through; on the few rows of a test reading it is cheapest."""
    async with database.connect() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        return "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN {statement}", *parameters))
