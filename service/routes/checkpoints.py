"""Checkpoints and aliases, for reading."""

from collections import defaultdict

from fastapi import APIRouter
from starlette.responses import Response

from kshot.contracts import api
from kshot.storage.aliases import Alias, list_aliases
from kshot.storage.checkpoints import list_checkpoints
from service import views
from service.auth import CallerDep
from service.finding import find_checkpoint
from service.openapi import problems
from service.pages import CursorDep, page_of
from service.state import StateDep

router = APIRouter(tags=["checkpoints"])


@router.get(
    "/checkpoints", summary="List checkpoints", response_model=api.Page[api.Checkpoint], responses=problems(422)
)
async def list_all(state: StateDep, caller: CallerDep, cursor: CursorDep) -> Response:
    """Newest first, each with its evaluation table and lineage."""
    async with state.database.reading() as connection:
        rows = await list_checkpoints(connection, limit=cursor.limit + 1, after=cursor.after)
        aliases = _by_checkpoint(await list_aliases(connection))
    return views.respond(page_of([views.checkpoint(row, aliases[row.id]) for row in rows], cursor.limit))


@router.get(
    "/checkpoints/{id}", summary="Get a checkpoint", response_model=api.Checkpoint, responses=problems(404, 422)
)
async def get_one(id: str, state: StateDep, caller: CallerDep) -> Response:
    """By id, or by `name@alias`."""
    row, _ = await find_checkpoint(state, id)
    async with state.database.reading() as connection:
        aliases = _by_checkpoint(await list_aliases(connection, checkpoint=row.id))
    return views.respond(views.checkpoint(row, aliases[row.id]))


@router.get("/aliases", summary="List aliases", response_model=api.Page[api.Alias], responses=problems())
async def list_names(state: StateDep, caller: CallerDep) -> Response:
    """All of them, by name."""
    async with state.database.reading() as connection:
        rows = await list_aliases(connection)
    return views.respond(page_of([views.alias(row) for row in rows], len(rows)))


def _by_checkpoint(aliases: list[Alias]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for alias in aliases:
        found[alias.checkpoint].append(f"{alias.name}@{alias.alias}")
    return found
