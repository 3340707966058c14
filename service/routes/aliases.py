"""Aliases: where each points, its history; for administrators, moving it and rolling it back."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kshot.contracts import api, registry_bodies
from kshot.contracts.errors import Conflict, Expired, Invalid, NotFound
from kshot.contracts.registry_bodies import AliasChange, MoveAliasRequest, Promotion, RollbackRequest
from kshot.storage import aliases as stored
from kshot.storage.aliases import Alias, alias_history, get_alias, list_aliases, move_alias
from kshot.storage.checkpoints import PRODUCTION, StoredCheckpoint
from kshot.storage.retention import rollback_target
from service import registry_views, views
from service.auditing import note
from service.auth import AdminDep, Caller, CallerDep
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.errors import request_id_of
from service.finding import find_checkpoint, parse_alias
from service.openapi import Responses, body_of, problems
from service.pages import page_of
from service.preconditions import IfMatchDep, etag
from service.prefer import PreferenceDep
from service.promoting import answer_promotion, ask_to_promote, wait_until_decided
from service.state import StateDep

router = APIRouter(prefix="/aliases", tags=["aliases"])
_TAGGED: Responses = {
    200: {"headers": {"ETag": {"schema": {"type": "string"}, "description": "Its version, for `If-Match`"}}}
}


@router.get("", summary="List aliases", response_model=api.Page[registry_bodies.Alias], responses=problems())
async def list_names(state: StateDep, caller: CallerDep) -> Response:
    """All of them, by name."""
    async with state.database.single() as connection:
        rows = await list_aliases(connection)
    return views.respond(page_of([views.alias(row) for row in rows], len(rows)))


@router.get(
    "/{name}", summary="Get an alias", response_model=registry_bodies.Alias, responses={**_TAGGED, **problems(404)}
)
async def get_one(name: str, state: StateDep, caller: CallerDep) -> Response:
    """`name@alias`, or `name` for `name@production`. Its `ETag` is its version, for `If-Match`."""
    own, alias = parse_alias(name)
    async with state.database.single() as connection:
        row = await get_alias(connection, own, alias)
    if row is None:
        raise NotFound("no alias of this name; GET /v1/aliases lists them")
    return views.respond(views.alias(row), 200, etag(row))


@router.put(
    "/{name}",
    summary="Point an alias at a checkpoint",
    response_model=registry_bodies.Alias,
    openapi_extra=body_of(MoveAliasRequest, json_only=True),
    responses={
        **_TAGGED,
        202: {"model": Promotion, "description": "Being compared with the one in production; follow Location"},
        **problems(400, 403, 404, 409, 410, 412, 413, 415, 422),
    },
)
async def move(
    name: str, request: Request, state: StateDep, caller: AdminDep, preference: PreferenceDep, if_match: IfMatchDep
) -> Response:
    """Onto `@production`, where another checkpoint is there already, it is first compared with that one on the same
    held-out episodes; one that does significantly worse is refused (409 `worse_than_incumbent`, with the figures).
    Asking again while they are compared waits for the same comparison."""
    raw = await read_raw(request, SMALL_BYTES)
    wanted = validate(MoveAliasRequest, strict_object(raw.data))
    own, alias = parse_alias(name)
    checkpoint, _ = await find_checkpoint(state, wanted.checkpoint)
    if checkpoint.manifest.name != own:
        raise Invalid(f"this is a checkpoint of {checkpoint.manifest.name}, not of {own}", param="checkpoint")
    async with state.database.transaction() as connection:
        now = await get_alias(connection, own, alias, lock=True)
        if_match.check(now)
        if now is None or alias != PRODUCTION or wanted.force or now.checkpoint == checkpoint.id:
            moved = await _set(connection, request, caller, own, alias, checkpoint, now)
            return views.respond(views.alias(moved), 200, etag(moved))
        promotion, fresh = await ask_to_promote(connection, caller, wanted, checkpoint, now, request_id_of(request))
        if fresh:
            await note(connection, request, caller, "promotion.create", promotion.id)
    return await answer_promotion(state, await wait_until_decided(state, promotion, preference.wait_s), preference)


@router.get(
    "/{name}/history", summary="History of an alias", response_model=api.Page[AliasChange], responses=problems(404)
)
async def history(name: str, state: StateDep, caller: CallerDep) -> Response:
    """All of it, newest first: what it points at, and what it pointed at before."""
    own, alias = parse_alias(name)
    async with state.database.single() as connection:
        rows = await alias_history(connection, own, alias)
    if not rows:
        raise NotFound("no alias of this name; GET /v1/aliases lists them")
    changes = [registry_views.alias_change(own, alias, row, caller) for row in rows]
    return views.respond(page_of(changes, len(changes)))


@router.post(
    "/{name}/rollback",
    summary="Roll an alias back",
    response_model=registry_bodies.Alias,
    openapi_extra=body_of(RollbackRequest, json_only=True, required=False),
    responses={**_TAGGED, **problems(400, 403, 404, 409, 412, 413, 415, 422)},
)
async def rollback(name: str, request: Request, state: StateDep, caller: AdminDep, if_match: IfMatchDep) -> Response:
    """To what it pointed at before the present checkpoint came, at once and without a comparison. Rolling back again
    goes one step further back, never forth; `version` goes anywhere in its history. No body is `{}`."""
    wanted = await _how_far(request)
    own, alias = parse_alias(name)
    async with state.database.transaction() as connection:
        now = await get_alias(connection, own, alias, lock=True)
        if now is None:
            raise NotFound("no alias of this name; GET /v1/aliases lists them")
        if_match.check(now)
        target = _target(await alias_history(connection, own, alias), wanted.version)
        try:
            moved = await move_alias(connection, own, alias, target.checkpoint, "rollback", key=caller.key)
        except Expired:
            raise Conflict(
                f"the checkpoint of version {target.version} was deleted, and its weights with it; choose another "
                "version"
            ) from None
        if moved.version != now.version:
            await note(connection, request, caller, "alias.rollback", f"{own}@{alias}")
    return views.respond(views.alias(moved), 200, etag(moved))


async def _how_far(request: Request) -> RollbackRequest:
    """The body, which may be left out; then it needs no Content-Type either."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return RollbackRequest()
    return validate(RollbackRequest, strict_object((await read_raw(request, SMALL_BYTES)).data))


def _target(changes: list[stored.AliasChange], version: int | None) -> stored.AliasChange:
    if version is None:
        if (found := rollback_target(changes)) is None:
            raise Conflict("there is nothing to roll back to: it pointed at no other checkpoint before this one")
        return found
    for change in changes:
        if change.version == version:
            return change
    raise Invalid("its history has no such version", param="version")


async def _set(
    connection: AsyncConnection,
    request: Request,
    caller: Caller,
    name: str,
    alias: str,
    checkpoint: StoredCheckpoint,
    now: Alias | None,
) -> Alias:
    """Move it without a comparison. Raises Conflict where somebody else made the alias in this moment."""
    forced = alias == PRODUCTION and now is not None
    moved = await move_alias(connection, name, alias, checkpoint.id, "force" if forced else "set", key=caller.key)
    if now is None and moved.version != 1:
        raise Conflict("somebody else just made this alias; look where it points, and try again", retry_after=1)
    if now is None or moved.version != now.version:
        await note(connection, request, caller, "alias.force" if forced else "alias.set", f"{name}@{alias}")
    return moved
