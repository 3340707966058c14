"""Signing in to the console: an API key for a cookie. Programs send their key instead, so the document is silent."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from kshot.contracts.api import Answer
from kshot.contracts.errors import Conflict, Unauthenticated
from kshot.contracts.model import Model
from kshot.storage.access import Role
from kshot.storage.lookups import KnownKey, Question
from kshot.storage.sessions import create_session, end_session, names_of_key
from service.auditing import note
from service.auth import Caller, CallerDep, enter
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.sessions import clear_cookie, refuse_forged, session_of, set_cookie
from service.state import State, StateDep
from service.views import respond

router = APIRouter(prefix="/session", include_in_schema=False)


class SignInRequest(Model):
    """`POST /session`."""

    key: Annotated[str, Field(min_length=1, max_length=500)]


class Session(Answer):
    """Who is signed in. ``key``: its name; None on a keyless server, where nobody signs in."""

    object: Literal["session"] = "session"
    key: str | None
    tenant: str
    role: Role


@router.post("")
async def sign_in(request: Request, state: StateDep) -> Response:
    """201 and the cookie. A browser that was signed in before changes over."""
    refuse_forged(request)
    await state.sign_ins.hit(f"sign-in:{'' if request.client is None else request.client.host}")
    raw = await read_raw(request, SMALL_BYTES)
    secret = validate(SignInRequest, strict_object(raw.data)).key
    key = await _key(state, secret)
    caller = Caller(key.tenant, key.role, key.id)
    async with state.database.transaction() as connection:
        if (before := session_of(request)) is not None:
            await end_session(connection, before)
        session = await create_session(connection, key.id)
        await note(connection, request, caller, "session.create", key.id)
        name, tenant = await names_of_key(connection, key.id)
    response = respond(Session(key=name, tenant=tenant, role=key.role), 201)
    set_cookie(request, response, session)
    return response


@router.get("")
async def read(state: StateDep, caller: CallerDep) -> Response:
    """Who is calling, by cookie or by key."""
    return respond(await describe(state, caller))


@router.delete("")
async def sign_out(request: Request, state: StateDep) -> Response:
    """204, also where the session had ended by itself."""
    refuse_forged(request)
    response = Response(status_code=204)
    clear_cookie(response)
    session = session_of(request)
    if session is not None:
        try:
            caller, _ = await enter(request, state)
        except Unauthenticated:
            return response
        async with state.database.transaction() as connection:
            await end_session(connection, session)
            await note(connection, request, caller, "session.delete", caller.key or "")
    return response


async def describe(state: State, caller: Caller) -> Session:
    """The names behind a caller."""
    if caller.key is None:
        return Session(key=None, tenant="default", role=caller.role)
    async with state.database.of_tenant(caller.tenant) as connection:
        name, tenant = await names_of_key(connection, caller.key)
    return Session(key=name, tenant=tenant, role=caller.role)


async def _key(state: State, secret: str) -> KnownKey:
    found = await state.database.find(Question(secret=secret))
    if not found.keys_exist:
        raise Conflict("this server has no API keys: the console is open, nobody signs in")
    try:
        return found.key()
    except Unauthenticated as error:
        error.param = "key"
        raise
