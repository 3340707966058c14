"""The audit log, for administrators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from sqlalchemy.engine import Row
from starlette.responses import Response

from kshot.contracts.access_bodies import AuditEntry
from kshot.contracts.api import Page
from kshot.storage.auditing import Wanted, list_audit
from service import views
from service.auth import AdminDep
from service.openapi import problems
from service.pages import NAME_PATTERN, page_of
from service.state import StateDep

router = APIRouter(prefix="/audit", tags=["tenants"])
_LARGEST_ID = 2**53
_ID = r"^[!-~]{1,200}$"
_Text = Annotated[str | None, Query(pattern=_ID)]


@router.get("", summary="Read the audit log", response_model=Page[AuditEntry], responses=problems(403, 422))
async def list_all(
    state: StateDep,
    caller: AdminDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=0, le=_LARGEST_ID, description="`last_id` of the page before")] = None,
    tenant: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Whose caller it was, by name")] = None,
    key: _Text = None,
    action: _Text = None,
    subject: Annotated[
        str | None, Query(pattern=_ID, description="The id, or the name, of what it was done to")
    ] = None,
    request_id: _Text = None,
    since: Annotated[AwareDatetime | None, Query(description="From this time on")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time")] = None,
) -> Response:
    """One line for everything that was changed, in the transaction of the change, newest first. Nothing can be changed
    or erased in it, and it is kept for ever."""
    wanted = Wanted(after, tenant, key, action, subject, request_id, since, until)
    async with state.database.single() as connection:
        rows = await list_audit(connection, wanted, limit + 1)
    return views.respond(page_of([_entry(row) for row in rows], limit))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        tenant=row.name,
        key=row.key_id,
        action=row.action,
        subject=row.object_id,
        request_id=row.request_id,
    )
