"""API keys, for administrators."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.access_bodies import NewKeyRequest, RotateKeyRequest
from kshot.contracts.errors import NotFound
from kshot.contracts.ids import is_id, new_id
from kshot.storage import idempotency
from kshot.storage.access import (
    ensure_tenant,
    generate_secret,
    get_key,
    insert_key,
    list_keys,
    revoke_key,
    rotate_key,
    tenant_names,
)
from kshot.storage.objects import sha256
from service import views
from service.adapting import IdempotencyDep
from service.auditing import note
from service.auth import AdminDep, Caller
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.openapi import Responses, body_of, problems
from service.pages import CursorDep, page_of
from service.state import StateDep

router = APIRouter(prefix="/api-keys", tags=["API keys"])
_MADE_BEFORE: Responses = {
    200: {"model": api.ApiKey, "description": "The same Idempotency-Key made it before; without the secret"}
}


@router.post(
    "",
    summary="Make an API key",
    status_code=201,
    response_model=api.ApiKey,
    openapi_extra=body_of(NewKeyRequest, json_only=True),
    responses={**_MADE_BEFORE, **problems(400, 403, 409, 413, 415, 422)},
)
async def make(request: Request, state: StateDep, caller: AdminDep, idempotency_key: IdempotencyDep) -> Response:
    """The secret is in `key`, this once: a repeated Idempotency-Key gets the same object without it."""
    raw = await read_raw(request, SMALL_BYTES)
    wanted = validate(NewKeyRequest, strict_object(raw.data))
    secret = generate_secret()
    async with state.database.transaction() as connection:
        before = await _made_before(connection, caller, idempotency_key, b"api-keys" + raw.data)
        if before is not None:
            return before
        tenant = caller.tenant if wanted.tenant is None else await ensure_tenant(connection, wanted.tenant)
        key = await insert_key(
            connection,
            secret=secret,
            tenant=tenant,
            name=wanted.name,
            role=wanted.role,
            expires_in_s=wanted.expires_in_seconds,
        )
        if idempotency_key is not None:
            await idempotency.rebind(connection, caller.tenant, idempotency_key, key.id)
        await note(connection, request, caller, "api_key.create", key.id)
        names = await tenant_names(connection)
    return views.respond(views.api_key(key, names[key.tenant], secret), 201)


async def _made_before(connection: AsyncConnection, caller: Caller, key: str | None, asked: bytes) -> Response | None:
    """The answer to a request that came before with the same Idempotency-Key; None where this one is the first, or has
    none."""
    if key is None:
        return None
    fresh = new_id("key")
    bound = await idempotency.take(connection, caller.tenant, key, sha256(asked), fresh)
    if bound.object_id == fresh:
        return None
    made, names = await get_key(connection, bound.object_id), await tenant_names(connection)
    return views.respond(views.api_key(made, names[made.tenant]), 200)


@router.post(
    "/{id}/rotate",
    summary="Replace an API key",
    status_code=201,
    response_model=api.ApiKey,
    openapi_extra=body_of(RotateKeyRequest, json_only=True),
    responses={**_MADE_BEFORE, **problems(400, 403, 404, 409, 413, 415, 422)},
)
async def rotate(
    id: str, request: Request, state: StateDep, caller: AdminDep, idempotency_key: IdempotencyDep
) -> Response:
    """A new key with the same name, role and tenant; its secret is in `key`, this once. The old one goes on for
    `grace_seconds`, then it ends, with the console sessions that it signed in."""
    _check_id(id)
    raw = await read_raw(request, SMALL_BYTES)
    wanted = validate(RotateKeyRequest, strict_object(raw.data))
    secret = generate_secret()
    async with state.database.transaction() as connection:
        before = await _made_before(connection, caller, idempotency_key, b"rotate" + id.encode() + raw.data)
        if before is not None:
            return before
        key = await rotate_key(
            connection, id, secret=secret, grace_s=wanted.grace_seconds, expires_in_s=wanted.expires_in_seconds
        )
        if idempotency_key is not None:
            await idempotency.rebind(connection, caller.tenant, idempotency_key, key.id)
        await note(connection, request, caller, "api_key.rotate", id)
        names = await tenant_names(connection)
    return views.respond(views.api_key(key, names[key.tenant], secret), 201)


@router.get("", summary="List API keys", response_model=api.Page[api.ApiKey], responses=problems(403, 422))
async def list_all(state: StateDep, caller: AdminDep, cursor: CursorDep) -> Response:
    """Of all tenants, newest first, never with a secret."""
    async with state.database.single() as connection:
        keys = await list_keys(connection, limit=cursor.limit + 1, after=cursor.after)
        names = await tenant_names(connection)
    return views.respond(page_of([views.api_key(key, names[key.tenant]) for key in keys], cursor.limit))


@router.delete("/{id}", summary="Revoke an API key", response_model=api.Deleted, responses=problems(403, 404))
async def revoke(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """At once; revoking twice is no error."""
    _check_id(id)
    async with state.database.transaction() as connection:
        await revoke_key(connection, id)
        await note(connection, request, caller, "api_key.revoke", id)
    return views.respond(api.Deleted(object="api_key", id=id))


def _check_id(id: str) -> None:
    if not is_id(id, "key"):
        raise NotFound("no API key with this id")
