"""Which tenants let the service record their support sets and feedback for meta-training, and for how long."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.flywheel_bodies import DEFAULT_RETENTION_DAYS
from kshot.storage.flywheel_tables import recording
from kshot.storage.tables import tenants


@dataclass(frozen=True)
class Recording:
    """A tenant's decision; ``changed_at`` None: it never made one."""

    enabled: bool = False
    retention_days: int = DEFAULT_RETENTION_DAYS
    changed_at: datetime | None = None


async def get_recording(connection: AsyncConnection, tenant: str) -> Recording:
    """What a tenant decided."""
    row = (await connection.execute(select(recording).where(recording.c.tenant_id == tenant))).one_or_none()
    return Recording() if row is None else Recording(row.enabled, row.retention_days, row.changed_at)


async def set_recording(
    connection: AsyncConnection, tenant: str, *, enabled: bool, retention_days: int
) -> Recording:  # fmt: skip
    """Write down what a tenant decides. What only recording kept is erased at the next sweep."""
    values = {"enabled": enabled, "retention_days": retention_days, "changed_at": func.now()}
    await connection.execute(
        insert(recording)
        .values(tenant_id=tenant, **values)
        .on_conflict_do_update(index_elements=[recording.c.tenant_id], set_=values)
    )
    return await get_recording(connection, tenant)


async def tenants_opted_in(connection: AsyncConnection) -> dict[str, str]:
    """The tenants that let us record, id -> name."""
    rows = await connection.execute(
        select(tenants.c.id, tenants.c.name)
        .join(recording, recording.c.tenant_id == tenants.c.id)
        .where(recording.c.enabled)
        .order_by(tenants.c.id)
    )
    return {row.id: row.name for row in rows}


def recorded_since() -> ColumnElement[datetime]:
    """Of a query that joins `recording`: what was made before this moment is no longer kept for it."""
    return func.now() - func.make_interval(0, 0, 0, recording.c.retention_days)
