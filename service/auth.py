"""Who is calling: a key's tenant and role; on a keyless loopback server, everyone on this machine as admin."""

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from kshot.contracts.errors import Forbidden, Unauthenticated
from kshot.storage.access import Role, any_key, authenticate
from kshot.storage.tables import DEFAULT_TENANT
from service.context import is_loopback
from service.state import State, StateDep

_MAX_SECRET = 500
_bearer = HTTPBearer(auto_error=False, description="An API key, `ksk_...`")


@dataclass(frozen=True)
class Caller:
    """The authenticated caller. ``key`` is None on a keyless server."""

    tenant: str
    role: Role
    key: str | None


async def get_caller(
    request: Request,
    state: StateDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    """Authenticate, then count the request against the tenant's rate."""
    caller = await _identify(request, state, None if credentials is None else credentials.credentials)
    structlog.contextvars.bind_contextvars(tenant=caller.tenant, key=caller.key)
    await state.rates.hit(caller.tenant)
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_admin(caller: CallerDep) -> Caller:
    """The same where the route is for administrators."""
    if caller.role != "admin":
        raise Forbidden("this needs an admin key")
    return caller


AdminDep = Annotated[Caller, Depends(get_admin)]


async def recheck_admin(request: Request, state: State) -> None:
    """Whether the caller of an answer that goes on may still have it. Raises Unauthenticated, Forbidden."""
    _, secret = get_authorization_scheme_param(request.headers.get("authorization"))
    await get_admin(await _identify(request, state, secret or None))


async def _identify(request: Request, state: State, secret: str | None) -> Caller:
    if not state.keys_exist:
        async with state.database.reading() as connection:
            state.keys_exist = await any_key(connection)
    if not state.keys_exist:
        _refuse_foreign_pages(request)
        return Caller(DEFAULT_TENANT, "admin", None)
    if secret is None or len(secret) > _MAX_SECRET:
        raise Unauthenticated("send an API key: Authorization: Bearer ksk_...")
    async with state.database.reading() as connection:
        key = await authenticate(connection, secret)
    return Caller(key.tenant, key.role, key.id)


def _refuse_foreign_pages(request: Request) -> None:
    """A keyless server must not obey a web page in the user's browser: a name rebound to 127.0.0.1 shows in Host,
    a form or script of another site in Origin."""
    if not is_loopback(request.headers.get("host", "")):
        raise Forbidden("without an API key this server answers to localhost only; make a key to serve other names")
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(origin.partition("://")[2]):
        raise Forbidden("without an API key this server takes no requests from other sites' pages")
