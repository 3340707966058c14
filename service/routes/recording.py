"""Whether a tenant lets its tasks be recorded for meta-training: its own decision, by any of its keys."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts import flywheel_bodies
from kshot.storage.recording import get_recording, set_recording
from service import flywheel_views, views
from service.auditing import note
from service.auth import CallerDep
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.openapi import body_of, problems
from service.state import StateDep

router = APIRouter(prefix="/recording", tags=["recording"])


@router.get(
    "", summary="Whether your tasks are recorded", response_model=flywheel_bodies.Recording, responses=problems()
)
async def read(state: StateDep, caller: CallerDep) -> Response:
    """Off until your tenant switches it on."""
    async with state.database.of_tenant(caller.tenant) as connection:
        return views.respond(flywheel_views.recording(await get_recording(connection, caller.tenant)))


@router.put(
    "",
    summary="Let your tasks be recorded, or no longer",
    response_model=flywheel_bodies.Recording,
    openapi_extra=body_of(flywheel_bodies.RecordingRequest, json_only=True),
    responses=problems(400, 403, 413, 415, 422),
)
async def decide(request: Request, state: StateDep, caller: CallerDep) -> Response:
    """While it is on, support sets and feedback of your tenant may form data sets that checkpoints are trained on, for
    `retention_days` after they came, even where their adapted model has expired by then. Deleting a model erases its
    own at once; switching this off erases what only recording kept within minutes.

    A training job keeps a copy of the tasks it was begun with until it ends, also past `retention_days`. When you
    delete a model that is in it, or switch this off, that copy is deleted within minutes, with what the job has saved
    so far. A stretch of training that is under way has read it by then, and may still end in a checkpoint; a job that
    is interrupted, or paused, begins anew without your tasks when it goes on. Checkpoints trained by then stay.
    """
    raw = await read_raw(request, SMALL_BYTES)
    wanted = validate(flywheel_bodies.RecordingRequest, strict_object(raw.data))
    async with state.database.of_tenant(caller.tenant) as connection:
        found = await set_recording(
            connection, caller.tenant, enabled=wanted.enabled, retention_days=wanted.retention_days
        )
        await note(
            connection, request, caller, "recording.enable" if wanted.enabled else "recording.disable", caller.tenant
        )
    return views.respond(flywheel_views.recording(found))
