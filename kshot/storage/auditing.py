"""Reading the audit log. Rows are appended by `access.audit`; a trigger refuses everything else.

Its one index is that of its numbers, which every change has to keep up. A stretch of time is found by it, too, since
rows are numbered about as time passes: so what is looked for in a day costs a day, however long the log is.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.tables import audit_log, tenants

_SLACK = timedelta(minutes=10)
"""A row bears the time at which its transaction began, and is numbered when it is written: no transaction takes so
long."""


@dataclass(frozen=True)
class Wanted:
    """Which rows; None: any. ``before``: only older ones than the one of this number."""

    before: int | None = None
    tenant: str | None = None
    key: str | None = None
    action: str | None = None
    subject: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_audit(connection: AsyncConnection, wanted: Wanted, limit: int) -> list[Row[Any]]:
    """Newest first, with the ``name`` of the tenant."""
    log = audit_log.c
    query = (
        select(log.id, log.at, tenants.c.name, log.key_id, log.action, log.object_id, log.request_id)
        .join(tenants, tenants.c.id == log.tenant_id)
        .order_by(log.id.desc())
        .limit(limit)
    )
    equal = {
        tenants.c.name: wanted.tenant,
        log.key_id: wanted.key,
        log.action: wanted.action,
        log.object_id: wanted.subject,
        log.request_id: wanted.request_id,
    }
    query = query.where(*(column == value for column, value in equal.items() if value is not None))
    if wanted.before is not None:
        query = query.where(log.id < wanted.before)
    if wanted.since is not None:
        query = query.where(log.at >= wanted.since, log.id >= await number_at(connection, wanted.since, _SLACK))
    if wanted.until is not None:
        query = query.where(log.at < wanted.until, log.id < await number_at(connection, wanted.until, -_SLACK))
    return list(await connection.execute(query))


async def number_at(connection: AsyncConnection, moment: datetime, slack: timedelta) -> int:
    """The number from which on rows are of ``moment - slack`` or later; all below it are earlier. Some thirty looks at
    the index, each of which halves what is left."""
    log = audit_log.c
    low, high = 0, 1 + (await connection.scalar(select(func.max(log.id))) or 0)
    while low < high:
        middle = (low + high) // 2
        query = select(log.id, log.at).where(log.id >= middle, log.id < high).order_by(log.id).limit(1)
        row = (await connection.execute(query)).one_or_none()
        if row is None or row.at + slack >= moment:
            high = middle
        else:
            low = row.id + 1
    return low
