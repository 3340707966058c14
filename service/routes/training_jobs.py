"""Meta-training jobs, for administrators: start, watch, cancel, pause, resume."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from pydantic import BeforeValidator, Field, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kshot import tracing
from kshot.contracts.api import Page
from kshot.contracts.errors import Invalid, NotFound
from kshot.contracts.ids import is_id, new_id
from kshot.contracts.job_bodies import NewJobRequest, TrainingEvent, TrainingJob
from kshot.contracts.jobs import JobStatus
from kshot.contracts.selection import AUTO
from kshot.storage import idempotency, jobs
from kshot.storage.job_events import list_events
from kshot.storage.objects import sha256
from kshot.storage.quotas import check_job
from service import views
from service.adapting import IdempotencyDep
from service.auditing import note
from service.auth import AdminDep, Caller, recheck_admin
from service.bodies.requests import validate
from service.bodies.stream import SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.errors import request_id_of
from service.event_stream import stream_events
from service.job_specs import job_spec
from service.job_views import shown, training_event
from service.openapi import Responses, body_of, problems
from service.pages import DATASET_ID, NAME_PATTERN, CursorDep, page_of
from service.state import State, StateDep

router = APIRouter(prefix="/training-jobs", tags=["meta-training"])
_EVENT_STREAM = "text/event-stream"
_LARGEST_SEQ = 2**53
_STEERED: Responses = {
    202: {"model": TrainingJob, "description": "The wish is recorded; `status` tells when it has come true"},
    **problems(403, 404, 409),
}


@router.post(
    "",
    summary="Start a meta-training job",
    status_code=201,
    response_model=TrainingJob,
    openapi_extra=body_of(NewJobRequest, json_only=True),
    responses={
        200: {"model": TrainingJob, "description": "The same Idempotency-Key made it before"},
        **problems(400, 403, 404, 409, 410, 413, 415, 422),
    },
)
async def start(request: Request, state: StateDep, caller: AdminDep, idempotency_key: IdempotencyDep) -> Response:
    """A trainer takes it when it is its turn. `recipe` is what runs; what would not run is refused here.

    The checkpoint it makes is in `checkpoint` once it has succeeded. No alias moves: promote it when it is to serve.
    """
    raw = await read_raw(request, SMALL_BYTES)
    body = strict_object(raw.data)
    wanted = validate(NewJobRequest, body)
    if wanted.name == AUTO:
        raise Invalid(f"no checkpoint may be named {AUTO}, which means a choice among all of them", param="name")
    job_id = new_id("job")
    async with state.database.transaction() as connection:
        if idempotency_key is not None:
            digest = sha256(b"training-jobs" + raw.data)
            bound = await idempotency.take(connection, caller.tenant, idempotency_key, digest, job_id)
            if bound.object_id != job_id:
                return await _respond(state, await jobs.get_job(connection, bound.object_id), 200)
        await check_job(connection, caller.tenant, caller.quotas)
        spec, base = await job_spec(connection, job_id, wanted)
        origin = request_id_of(request), tracing.carried()
        job = jobs.NewJob(caller.tenant, None if base is None else base.id, body, spec, *origin)
        await jobs.insert_job(connection, job)
        await note(connection, request, caller, "training_job.create", job_id)
        made = await jobs.get_job(connection, job_id)
    return await _respond(state, made, 201)


@router.get("", summary="List meta-training jobs", response_model=Page[TrainingJob], responses=problems(403, 422))
async def list_all(
    state: StateDep,
    caller: AdminDep,
    cursor: CursorDep,
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs of this status; may be repeated")] = None,
    name: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only of checkpoints of this name")] = None,
    dataset: Annotated[str | None, Query(pattern=DATASET_ID, description="Only on the data set of this id")] = None,
) -> Response:
    """Newest first."""
    async with state.database.single() as connection:
        rows = await jobs.list_jobs(
            connection,
            limit=cursor.limit + 1,
            after=cursor.after,
            statuses=status or (),
            name=name,
            dataset=dataset,
        )
    return views.respond(page_of([await shown(state, row) for row in rows], cursor.limit))


@router.get("/{id}", summary="Get a meta-training job", response_model=TrainingJob, responses=problems(403, 404))
async def get_one(id: str, state: StateDep, caller: AdminDep) -> Response:
    """Its progress, and at the end its checkpoint and evaluation, or why there are none."""
    return views.respond(await shown(state, await _find(state, id)))


@router.post("/{id}/cancel", summary="Cancel a job", status_code=202, response_model=TrainingJob, responses=_STEERED)
async def cancel(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """Within 30 seconds; its saved state is deleted. Cancelling twice is no error."""
    return await _steer(id, request, state, caller, "cancel", jobs.cancel_job)


@router.post("/{id}/pause", summary="Pause a job", status_code=202, response_model=TrainingJob, responses=_STEERED)
async def pause(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """A queued or running job saves its state and waits. Pausing twice is no error."""
    return await _steer(id, request, state, caller, "pause", jobs.pause_job)


@router.post("/{id}/resume", summary="Resume a job", status_code=202, response_model=TrainingJob, responses=_STEERED)
async def resume(id: str, request: Request, state: StateDep, caller: AdminDep) -> Response:
    """A paused job is queued again, and goes on where it was."""
    return await _steer(id, request, state, caller, "resume", jobs.resume_job)


@router.get(
    "/{id}/events",
    summary="Events of a job",
    response_model=Page[TrainingEvent],
    responses={
        200: {
            "content": {_EVENT_STREAM: {"schema": {"type": "string"}}},
            "description": "With `Accept: text/event-stream` a stream of server-sent events: `id` is `seq`, `event` is "
            "`kind`, `data` is the event as JSON. It ends when the job has ended, or the key no longer counts",
        },
        204: {"description": "A stream is asked for of a job that has ended and has no more to tell"},
        **problems(403, 404, 422),
    },
)
async def events(
    id: str,
    request: Request,
    state: StateDep,
    caller: AdminDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=_LARGEST_SEQ, description="`seq` of the last event seen")] = 0,
    last_event_id: Annotated[
        Annotated[int, Field(ge=0, le=_LARGEST_SEQ)] | None,
        BeforeValidator(lambda sent: sent or None),  # an EventSource that has seen none may send it empty
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": _LARGEST_SEQ}, {"const": ""}]}),
        Header(description="The same for a stream that was broken off"),
    ] = None,
) -> Response:
    """Oldest first: progress, losses, validations, what was saved, how it ended."""
    await _find(state, id)
    if _EVENT_STREAM in request.headers.get("accept", ""):
        seen = after if last_event_id is None else last_event_id
        return await stream_events(state, id, seen, partial(recheck_admin, request, state))
    async with state.database.single() as connection:
        rows = await list_events(connection, id, after=after, limit=limit + 1)
    return views.respond(page_of([training_event(row) for row in rows], limit))


async def _find(state: State, id: str) -> jobs.StoredJob:
    _check_id(id)
    async with state.database.single() as connection:
        return await jobs.get_job(connection, id)


async def _steer(
    id: str,
    request: Request,
    state: State,
    caller: Caller,
    verb: str,
    wish: Callable[[AsyncConnection, str], Awaitable[None]],
) -> Response:
    _check_id(id)
    async with state.database.transaction() as connection:
        await wish(connection, id)
        await note(connection, request, caller, f"training_job.{verb}", id)
        job = await jobs.get_job(connection, id)
    return await _respond(state, job, 202)


async def _respond(state: State, job: jobs.StoredJob, status: int) -> Response:
    return views.respond(await shown(state, job), status, {"Location": f"/v1/training-jobs/{job.id}"})


def _check_id(id: str) -> None:
    if not is_id(id, "job"):
        raise NotFound("no training job with this id")
