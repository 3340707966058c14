"""A stretch of time in the audit log, found by the numbers of its rows."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.storage.auditing import Wanted, list_audit, number_at
from kshot.storage.tables import DEFAULT_TENANT, audit_log

START = datetime(2100, 1, 1, tzinfo=UTC)
"""Later than whatever else is in the log."""
HOUR, NONE = timedelta(hours=1), timedelta()


async def _write(connection: AsyncConnection, hours: float) -> int:
    """A row of so many hours after the start; its number."""
    values = {"tenant_id": DEFAULT_TENANT, "action": "test", "object_id": "x", "at": START + hours * HOUR}
    row = await connection.execute(insert(audit_log).values(**values).returning(audit_log.c.id))
    await connection.execute(text("SELECT nextval(pg_get_serial_sequence('audit_log', 'id'))"))  # rolled back: a gap
    return int(row.scalar_one())


async def test_a_stretch_of_time_is_looked_for_among_its_own_rows(database: AsyncEngine) -> None:
    async with database.connect() as connection:  # nothing of it is committed
        ids = [await _write(connection, hour) for hour in range(9)]
        for first in range(9):
            assert ids[first] - 1 <= await number_at(connection, START + first * HOUR, NONE) <= ids[first]
            for end in range(first, 10):
                wanted = Wanted(since=START + first * HOUR, until=START + end * HOUR)
                found = [row.id for row in await list_audit(connection, wanted, 100)]
                assert found == ids[first:end][::-1]
        assert await number_at(connection, START + 9 * HOUR, NONE) > ids[-1]
        assert await number_at(connection, datetime.min.replace(tzinfo=UTC), NONE) <= 1


async def test_a_row_that_was_written_minutes_after_its_time_is_found(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        for hours in (0, 1, 2):
            await _write(connection, hours)
        late = await _write(connection, 2 - 9 / 60)
        await _write(connection, 3)
        for stretch in (Wanted(since=START + 1.8 * HOUR), Wanted(until=START + 1.9 * HOUR)):
            assert late in [row.id for row in await list_audit(connection, stretch, 100)]
