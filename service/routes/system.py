"""The state of the whole installation, for administrators."""

from fastapi import APIRouter
from starlette.responses import Response

from kshot.contracts.system_bodies import System
from kshot.storage.system import recent_failures
from service import system_views, views
from service.auth import AdminDep
from service.figures import read_figures
from service.openapi import problems
from service.state import StateDep

router = APIRouter(prefix="/system", tags=["system"])
_DAY_S = 24 * 3600.0
_MOST_FAILURES = 50


@router.get("", summary="State of the installation", response_model=System, responses=problems(403))
async def get_system(state: StateDep, caller: AdminDep) -> Response:
    """Workers, queue, batches, caches, what failed in the last day: of all API processes and workers together. The same
    counts, for Prometheus, are at `/metrics`."""
    figures = await read_figures(state)
    async with state.database.single() as connection:
        failures = await recent_failures(connection, _DAY_S, _MOST_FAILURES)
    return views.respond(system_views.system(figures, failures))
