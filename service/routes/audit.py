"""The audit log, for administrators."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError
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


def _written_out(sent: object) -> object:
    """Pydantic takes a number for seconds since 1970; the document says that a time is written as RFC 3339 has it."""
    if isinstance(sent, str) and "T" not in sent.upper():
        raise PydanticCustomError("time", "expected a time such as 2026-01-31T12:00:00Z")
    return sent


def _in_utc(time: datetime) -> datetime:
    """As the database compares it."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time", "this time is not within the years 1 to 9999 in UTC") from None


_Time = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


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
    since: Annotated[_Time | None, Query(description="From this time on")] = None,
    until: Annotated[_Time | None, Query(description="Before this time")] = None,
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
