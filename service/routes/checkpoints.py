"""Checkpoints: read; for administrators, delete."""

from collections import defaultdict
from typing import Annotated

import structlog
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from kshot.contracts import api, registry_bodies
from kshot.contracts.errors import NotFound
from kshot.contracts.ids import is_id
from kshot.storage.aliases import Alias, list_aliases
from kshot.storage.checkpoints import get_checkpoint, list_checkpoints
from kshot.storage.retention import delete_checkpoint, deleted_with_weights, weights_are_gone
from service import views
from service.auditing import note
from service.auth import AdminDep, CallerDep
from service.finding import find_checkpoint
from service.openapi import problems
from service.pages import NAME_PATTERN, CursorDep, page_of
from service.state import State, StateDep

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"])
_log = structlog.get_logger()


@router.get(
    "", summary="List checkpoints", response_model=api.Page[registry_bodies.Checkpoint], responses=problems(422)
)
async def list_all(
    state: StateDep,
    caller: CallerDep,
    cursor: CursorDep,
    name: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only of this name")] = None,
) -> Response:
    """Newest first, each with its evaluation table and lineage; without deleted ones."""
    async with state.database.single() as connection:
        rows = await list_checkpoints(connection, limit=cursor.limit + 1, after=cursor.after, name=name)
        aliases = _by_checkpoint(await list_aliases(connection))
    return views.respond(page_of([views.checkpoint(row, aliases[row.id]) for row in rows], cursor.limit))


@router.get(
    "/{id}", summary="Get a checkpoint", response_model=registry_bodies.Checkpoint, responses=problems(404, 422)
)
async def get_one(id: str, state: StateDep, caller: CallerDep) -> Response:
    """By id, or by `name@alias`. A deleted one has `deleted_at`: others' lineage may still name it."""
    if is_id(id, "ckpt"):
        async with state.database.single() as connection:
            row = await get_checkpoint(connection, id, even_deleted=True)
    else:
        row, _ = await find_checkpoint(state, id)
    async with state.database.single() as connection:
        aliases = _by_checkpoint(await list_aliases(connection, checkpoint=row.id))
    return views.respond(views.checkpoint(row, aliases[row.id]))


@router.delete(
    "/{id}", summary="Delete a checkpoint", response_model=api.Deleted, responses=problems(403, 404, 409)
)  # fmt: skip
async def delete(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """By id. Refused while an alias, an adapted model, an open job or an open promotion needs it; its weights go, and
    what it was stays on record. A rollback to it is no longer possible. Deleting twice is no error."""
    if not is_id(id, "ckpt"):
        raise NotFound("no checkpoint with this id")
    async with state.database.transaction() as connection:
        if await delete_checkpoint(connection, id):
            await note(connection, request, caller, "checkpoint.delete", id)
    state.forget_checkpoint(id)
    await _remove_weights(state, id)
    return views.respond(api.Deleted(object="checkpoint", id=id))


async def _remove_weights(state: State, id: str) -> None:
    """What cannot be removed now is found by the next sweep of a worker."""
    async with state.database.transaction() as connection:
        for stored in await deleted_with_weights(connection, 1, id):
            try:
                await to_thread.run_sync(state.objects.delete, stored.object_key)
            except OSError as error:
                _log.warning("weights_not_deleted", checkpoint=id, error=error.strerror)
                return
            await weights_are_gone(connection, [id])


def _by_checkpoint(aliases: list[Alias]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for alias in aliases:
        found[alias.checkpoint].append(f"{alias.name}@{alias.alias}")
    return found
