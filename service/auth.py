"""Who is calling: a key's tenant and role, or those of the key that signed in to the console; on a keyless loopback
server, everyone on this machine as admin."""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kshot.contracts.errors import Forbidden, Unauthenticated
from kshot.storage.access import Role
from kshot.storage.lookups import Found, Question
from kshot.storage.quotas import NO_QUOTAS, Quotas
from kshot.storage.tables import DEFAULT_TENANT
from service.context import is_loopback
from service.logs import note_caller
from service.sessions import refuse_forged, session_of
from service.state import State, StateDep

_MAX_SECRET = 500
_CALLERS_KEPT = 10_000
_NOTHING = Question()
_bearer = HTTPBearer(auto_error=False, description="An API key, `ksk_...`")


@dataclass(frozen=True)
class Caller:
    """The authenticated caller. ``key`` is None on a keyless server. ``quotas``: what holds for the tenant now."""

    tenant: str
    role: Role
    key: str | None
    quotas: Quotas = NO_QUOTAS


async def get_caller(
    request: Request, state: StateDep, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    """Authenticate, and count the request against the tenant's rate."""
    return (await enter(request, state))[0]


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_admin(caller: CallerDep) -> Caller:
    """The same where the route is for administrators."""
    if caller.role != "admin":
        raise Forbidden("this needs an admin key")
    return caller


AdminDep = Annotated[Caller, Depends(get_admin)]


async def enter(request: Request, state: State, about: Question = _NOTHING) -> tuple[Caller, Found]:
    """Authenticate, count the request, and look up what it is ``about``, in one round trip: the adapted model that it
    names, or an alias.

    Whose key it is rarely changes, so the rate of the tenant that it was last time is counted meanwhile. Raises
    Unauthenticated, Forbidden, RateLimited.
    """
    tenant = expected_tenant(request, state)
    rate = None if tenant is None else state.own_rates.get(tenant)
    hit = None if tenant is None else state.rates.hit(tenant, rate)
    caller, found = await _identify(request, state, about)
    note_caller(request.scope, caller.tenant, caller.key)
    now = found.quotas.requests_per_minute
    if hit is None or (tenant, rate) != (caller.tenant, now):
        _remember_rate(state, caller.tenant, now)
        hit = state.rates.hit(caller.tenant, now)
    await hit
    return caller, found


def _remember_rate(state: State, tenant: str, rate: int | None) -> None:
    state.own_rates.pop(tenant, None)
    if rate is not None:
        if len(state.own_rates) >= _CALLERS_KEPT:
            state.own_rates.clear()
        state.own_rates[tenant] = rate


def expected_tenant(request: Request, state: State) -> str | None:
    """Whose request this is where nothing has changed since his last one; None: not seen before."""
    if not state.keys_exist:
        return DEFAULT_TENANT
    shown = _shown_by(request)
    return None if shown is None else state.tenants.get(_digest(shown.secret))


async def recheck_admin(request: Request, state: State) -> None:
    """Whether the caller of an answer that goes on may still have it. Raises Unauthenticated, Forbidden."""
    caller, _ = await _identify(request, state)
    await get_admin(caller)


async def _identify(request: Request, state: State, about: Question = _NOTHING) -> tuple[Caller, Found]:
    if not state.keys_exist:
        found = await state.database.find(replace(about, tenant=DEFAULT_TENANT))
        state.keys_exist = found.keys_exist
        if not state.keys_exist:
            _refuse_foreign_pages(request)
            return Caller(DEFAULT_TENANT, "admin", None, found.quotas.over(state.quotas)), found
    shown = _shown_by(request)
    if shown is None or len(shown.secret) > _MAX_SECRET:
        raise Unauthenticated("send an API key: Authorization: Bearer ksk_...")
    if shown.is_session:
        refuse_forged(request)
        question = replace(about, session=shown.secret)
    else:
        question = replace(about, secret=shown.secret)
    found = await state.database.find(question)
    try:
        key = found.key()
    except Unauthenticated:
        state.tenants.pop(_digest(shown.secret), None)
        raise
    if len(state.tenants) >= _CALLERS_KEPT:
        state.tenants.clear()
        state.aliases.clear()
    state.tenants[_digest(shown.secret)] = key.tenant
    return Caller(key.tenant, key.role, key.id, found.quotas.over(state.quotas)), found


class _Shown(NamedTuple):
    """What a caller shows of himself: a key's secret, or that of a session."""

    secret: str
    is_session: bool


def _shown_by(request: Request) -> _Shown | None:
    """The key of the Authorization header; where there is no such header, the console's cookie."""
    header = request.headers.get("authorization")
    if header is None:
        session = session_of(request)
        return None if session is None else _Shown(session, True)
    scheme, _, secret = header.partition(" ")
    return _Shown(secret, False) if scheme.lower() == "bearer" and secret else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _refuse_foreign_pages(request: Request) -> None:
    """A keyless server must not obey a web page in the user's browser: a name rebound to 127.0.0.1 shows in Host,
    a form or script of another site in Origin."""
    if not is_loopback(request.headers.get("host", "")):
        raise Forbidden("without an API key this server answers to localhost only; make a key to serve other names")
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(origin.partition("://")[2]):
        raise Forbidden("without an API key this server takes no requests from other sites' pages")
