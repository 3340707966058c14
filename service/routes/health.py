"""Liveness and readiness, which need no key, and metrics, which need an administrator's."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from sqlalchemy import text
from starlette.responses import Response

from kshot.contracts.errors import Unavailable
from kshot.contracts.health_bodies import Health, Parts, Readiness
from service.auth import AdminDep
from service.exposition import expose
from service.figures import read_figures
from service.metrics import CONTENT_TYPE
from service.openapi import problems
from service.state import State, StateDep
from service.views import respond

router = APIRouter(tags=["health"])
_PATIENCE_S = 1.0


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Liveness", response_model=Health)
async def healthz() -> Response:
    """Whether the process answers at all."""
    return respond(Health())


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Readiness",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "The database is away, or no checkpoint is published yet"}},
)
async def readyz(state: StateDep) -> Response:
    """503 without a database or before the first checkpoint is published: nothing can be accepted then."""
    (database, checkpoints, workers, trainers), redis, objects = await asyncio.gather(
        _database(state), _redis(state), _objects(state)
    )
    whole = redis and objects and workers
    status: Literal["ready", "degraded", "starting", "unavailable"] = "ready" if whole else "degraded"
    if not checkpoints:
        status = "starting" if database else "unavailable"
    parts = Parts(
        database="up" if database else "away",
        redis="up" if redis else "away",
        objects="up" if objects else "away",
        workers=workers,
        trainers=trainers,
        checkpoints=checkpoints,
    )
    readiness = Readiness(status=status, parts=parts)
    return respond(readiness) if checkpoints else respond(readiness, 503, {"Retry-After": "2"})


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
async def metrics(state: StateDep, caller: AdminDep) -> Response:
    """What this API server has answered, and the figures of the whole installation: queue, workers, batches, caches,
    training. Without tenants. A keyed server wants an admin key."""
    body = state.metrics.render() + expose(await read_figures(state))
    return Response(body, headers={"Content-Type": CONTENT_TYPE})


async def _database(state: State) -> tuple[bool, int, int, int]:
    """Whether it answers, and how many checkpoints, live workers and live trainers it knows."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            async with state.database.single() as connection:
                count = await connection.scalar(text("SELECT count(*) FROM checkpoints"))
            return True, count or 0, len(await state.workers()), len(await state.trainers())
    except (Unavailable, TimeoutError):
        return False, 0, 0, 0


async def _redis(state: State) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await state.queue.ping()
    except TimeoutError:
        return False


async def _objects(state: State) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await state.store_answers()
    except TimeoutError:
        return False
