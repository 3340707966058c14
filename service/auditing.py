"""The audit row of a mutation, from the request that asked for it."""

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.access import audit
from service.auth import Caller
from service.errors import request_id_of


async def note(connection: AsyncConnection, request: Request, caller: Caller, action: str, object_id: str) -> None:
    """Append it, in the mutation's own transaction."""
    await audit(
        connection,
        tenant=caller.tenant,
        key=caller.key,
        action=action,
        object_id=object_id,
        request_id=request_id_of(request),
    )
