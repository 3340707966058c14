"""Promotions, for administrators: how a checkpoint compared with the one in production."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from kshot.contracts import api
from kshot.contracts.errors import NotFound
from kshot.contracts.ids import is_id
from kshot.contracts.registry_bodies import Promotion
from kshot.storage.promotions import get_promotion, list_promotions
from service import views
from service.auth import AdminDep
from service.openapi import problems
from service.pages import NAME_PATTERN, CursorDep, page_of
from service.prefer import MAX_WAIT_S
from service.promoting import shown, wait_until_decided
from service.state import StateDep

router = APIRouter(prefix="/promotions", tags=["aliases"])


@router.get("", summary="List promotions", response_model=api.Page[Promotion], responses=problems(403, 422))
async def list_all(
    state: StateDep,
    caller: AdminDep,
    cursor: CursorDep,
    name: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only of checkpoints of this name")] = None,
) -> Response:
    """Newest first, each with its comparison."""
    async with state.database.single() as connection:
        rows = await list_promotions(connection, limit=cursor.limit + 1, after=cursor.after, name=name)
    return views.respond(page_of([await shown(state, row) for row in rows], cursor.limit))


@router.get("/{id}", summary="Get a promotion", response_model=Promotion, responses=problems(403, 404, 422))
async def get_one(
    id: str,
    state: StateDep,
    caller: AdminDep,
    wait: Annotated[int, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait while it is being compared")] = 0,
) -> Response:
    """With the figures of both checkpoints, shape by shape, once they are known."""
    if not is_id(id, "pro"):
        raise NotFound("no promotion with this id")
    async with state.database.single() as connection:
        promotion = await get_promotion(connection, id)
    return views.respond(await shown(state, await wait_until_decided(state, promotion, wait)))
