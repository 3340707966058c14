"""The only wiring point: settings in, an application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from kshot import __version__, tracing
from kshot.queue.front import FrontQueue
from kshot.storage.database import open_database
from kshot.storage.orders import Room
from service import errors
from service.committing import Committer
from service.console import assets, pages
from service.context import RequestContext
from service.database import Database
from service.entrance import Entrance
from service.gate import Gate
from service.metrics import Metrics
from service.openapi import install_document
from service.rates import Rates
from service.routes import (
    adapt,
    adapted_models,
    aliases,
    api_keys,
    audit,
    checkpoints,
    datasets,
    feedback,
    health,
    limits,
    predict,
    promotions,
    recording,
    session,
    system,
    tenants,
    training_jobs,
    training_plans,
)
from service.settings import Settings
from service.shortcut import Shortcut
from service.state import State
from service.tracing import RequestTrace

_DESCRIPTION = "Few-shot learning as a service: a handful of labelled examples in, a working model out."
_SIGN_INS_PER_MINUTE = 60
"""From one address, which may be that of a proxy in front of many people. A key's 256 bits are not guessed anyway."""


def create_app(settings: Settings) -> FastAPI:
    """The application. Nothing is opened before its lifespan begins."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open_state(settings, metrics) as state:
            app.state.kshot = state
            yield

    # The document and its page (`service/console/pages.py`) are public on purpose, also where keys are needed: they say
    # no more than this source does.
    app = FastAPI(
        title="kshot",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # FastAPI's own looks for it in every request
    )
    calls = {"/predict": predict.predict, "/adapt": adapt.adapt_unkeyed}
    app.add_middleware(Shortcut, routes={f"{prefix}{path}": calls[path] for prefix in ("", "/v1") for path in calls})
    app.add_middleware(Entrance)
    if tracing.is_on():
        app.add_middleware(RequestTrace)
    app.add_middleware(RequestContext, metrics=metrics)  # the last one added is the outermost
    errors.install(app)
    _include_routes(app)
    install_document(app)
    return app


def _include_routes(app: FastAPI) -> None:
    app.include_router(health.router)
    for calls in (adapt.router, predict.router):
        app.include_router(calls)  # the two main calls answer at the root too
    v1 = APIRouter(prefix="/v1")
    for module in (
        adapt,
        predict,
        adapted_models,
        feedback,
        recording,
        checkpoints,
        aliases,
        promotions,
        datasets,
        api_keys,
        tenants,
        audit,
        limits,
        training_jobs,
        training_plans,
        system,
    ):
        v1.include_router(module.router)
    app.include_router(v1)
    for part in (session, pages, assets):
        app.include_router(part.router)


@asynccontextmanager
async def _open_state(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
    redis_url = settings.redis_url.get_secret_value()
    engine = open_database(settings.database, pool_size=settings.database_connections)
    database, queue = Database(engine), FrontQueue(redis_url)
    state = State(
        settings=settings,
        database=database,
        queue=queue,
        objects=settings.open_objects(),
        rates=Rates(queue.link, settings.rate_per_minute),
        sign_ins=Rates(queue.link, _SIGN_INS_PER_MINUTE),
        metrics=metrics,
        committer=Committer(database, Room(settings.max_open_tasks, settings.max_open_per_tenant)),
        calls_gate=Gate(settings.max_calls),
        orders_gate=Gate(settings.max_calls),
    )
    await state.queue.start()
    try:
        yield state
    finally:
        await state.queue.stop()
        await state.database.close()
