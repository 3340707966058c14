"""Reading the audit log. Rows are appended by `access.audit`; a trigger refuses everything else."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.tables import audit_log, tenants


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
        query = query.where(log.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(log.at < wanted.until)
    return list(await connection.execute(query))
