"""Adapted models: read, list, change, delete, add examples."""

from typing import Annotated

import structlog
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from kshot.contracts import api, flywheel_bodies
from kshot.contracts.errors import Invalid, NotFound
from kshot.contracts.ids import is_id
from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet
from kshot.storage.adapted_models import (
    AdaptedModel,
    change_adapted_model,
    list_adapted_models,
)
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.fingerprints import renew_fingerprint
from kshot.storage.objects import ObjectStore, state_keys
from kshot.storage.results import get_support
from kshot.storage.revisions import list_revisions
from service import flywheel_views, views
from service.adapting import RESPONSES, IdempotencyDep, answer_order
from service.auditing import note
from service.auth import Caller, CallerDep
from service.bodies.requests import Parsed, parse_examples, validate
from service.bodies.stream import ANY, SMALL_BYTES, read_raw
from service.bodies.strict_json import strict_object
from service.calls import call_of
from service.finding import find_adapted_model
from service.meaning import extend_support, read_query
from service.openapi import body_of, problems
from service.pages import CursorDep, page_of
from service.predicting import require_ready
from service.prefer import MAX_WAIT_S, PreferenceDep
from service.preparing import Order, Prepared, prepare
from service.settings import Settings
from service.state import State, StateDep
from service.waiting import pending_answer, wait_until_done

router = APIRouter(prefix="/adapted-models", tags=["adapted models"])
_log = structlog.get_logger()


@router.get("", summary="List adapted models", response_model=api.Page[api.AdaptedModel], responses=problems(422))
async def list_models(state: StateDep, caller: CallerDep, cursor: CursorDep) -> Response:
    """Newest first; without expired and deleted ones, and without `predictions`: get one model to read them."""
    async with state.database.of_tenant(caller.tenant) as connection:
        rows = await list_adapted_models(connection, caller.tenant, limit=cursor.limit + 1, after=cursor.after)
    return views.respond(page_of([views.adapted_model(row) for row in rows], cursor.limit))


@router.get("/{id}", summary="Get an adapted model", response_model=api.AdaptedModel, responses=problems(404, 410, 422))
async def get_model(
    id: str,
    request: Request,
    state: StateDep,
    caller: CallerDep,
    wait: Annotated[int, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait while it is pending")] = 0,
) -> Response:
    """While pending it says `queue_state`, `position` and `retry_after_ms`."""
    model = await wait_until_done(state, call_of(request), await find_adapted_model(state, caller, id), wait)
    return views.respond(await _shown(state, model))


@router.get(
    "/{id}/history",
    summary="The states of an adapted model",
    response_model=api.Page[flywheel_bodies.Revision],
    responses=problems(404, 410, 422),
)
async def list_history(id: str, state: StateDep, caller: CallerDep) -> Response:
    """Newest first, all on one page: how it was made and, where it follows an alias, what became of each move."""
    model = await find_adapted_model(state, caller, id)
    async with state.database.of_tenant(caller.tenant) as connection:
        rows = await list_revisions(connection, model)
    return views.respond(page_of([flywheel_views.revision(row) for row in rows], len(rows)))


@router.patch(
    "/{id}",
    summary="Change time to live, pin, metadata, or whether it follows its alias",
    response_model=api.AdaptedModel,
    openapi_extra=body_of(api.ChangeRequest, json_only=True),
    responses=problems(400, 404, 410, 413, 415, 422),
)
async def change_model(id: str, request: Request, state: StateDep, caller: CallerDep) -> Response:
    """`ttl_seconds` counts from now. A model whose time passed while it was pinned needs it to lose the pin.

    Weights never change, unless the model follows an alias.
    """
    _check_id(id)
    raw = await read_raw(request, SMALL_BYTES)
    change = validate(api.ChangeRequest, strict_object(raw.data))
    async with state.database.of_tenant(caller.tenant) as connection:
        model = await change_adapted_model(
            connection,
            caller.tenant,
            id,
            ttl_s=change.ttl_seconds,
            pinned=change.pinned,
            metadata=change.metadata,
            follow=change.follow,
        )
        if change.follow is not None:
            await renew_fingerprint(connection, id)
        await note(connection, request, caller, "adapted_model.change", id)
    return views.respond(await _shown(state, model))


@router.delete("/{id}", summary="Delete an adapted model", response_model=api.Deleted, responses=problems(404))
async def delete_model(id: str, request: Request, state: StateDep, caller: CallerDep) -> Response:
    """Its support set, its states, feedback on it and all predictions made with it are erased."""
    _check_id(id)
    async with state.database.of_tenant(caller.tenant) as connection:
        attempts = await delete_adapted_model(connection, caller.tenant, id)
        await note(connection, request, caller, "adapted_model.delete", id)
    state.parents.drop(id)
    try:
        await to_thread.run_sync(_delete_states, state.objects, attempts)
    except OSError as error:  # it is deleted all the same; the sweep of a worker removes the states later
        _log.warning("states_not_deleted", adapted_model=id, error=error.strerror)
    return views.respond(api.Deleted(object="adapted_model", id=id))


@router.post(
    "/{id}/examples",
    summary="Add examples or classes",
    status_code=201,
    response_model=api.AdaptedModel,
    openapi_extra=body_of(api.ExamplesRequest),
    responses=RESPONSES,
)
async def add_examples(
    id: str, request: Request, state: StateDep, caller: CallerDep, preference: PreferenceDep, key: IdempotencyDep
) -> Response:
    """A new adapted model, with `parent_id`, from the parent's examples and these; checkpoint, options and `follow` as
    there."""
    raw = await read_raw(request, state.settings.max_body_bytes, ANY)
    parsed = await state.read(raw, parse_examples)
    model = await find_adapted_model(state, caller, id)
    parent = await wait_until_done(state, call_of(request), model, preference.wait_s)
    require_ready(parent)
    checkpoint = await state.checkpoint(parent.made_with.id)
    before = await _examples_of(state, caller, id)
    prepared = await state.compute(
        raw.cost + before.n_bytes,
        lambda: _prepare(parsed, parent, before, checkpoint, state.settings),
        images=checkpoint.manifest.input.modality == "image",
    )
    return await answer_order(request, state, caller, prepared, key, preference)


async def _examples_of(state: State, caller: Caller, id: str) -> SupportSet:
    """Of a model that was just found to be the caller's."""
    found = state.parents.get(id)
    if found is None:
        async with state.database.of_tenant(caller.tenant) as connection:
            stored = await get_support(connection, caller.tenant, id)
        found = (await state.compute(len(stored), lambda: Payload.decode(stored))).support
        assert found is not None
        state.parents.keep(id, found)
    return found


def _prepare(
    parsed: Parsed[api.ExamplesSettings],
    parent: AdaptedModel,
    before: SupportSet,
    checkpoint: StoredCheckpoint,
    limits: Settings,
) -> Prepared:
    if parsed.support is None:
        raise Invalid("examples are missing", param="support")
    support = extend_support(before, parsed.support, checkpoint.manifest, limits)
    query = None
    if parsed.query is not None:
        query = read_query(parsed.query, checkpoint.manifest.input, parent.input_shape, limits)
    return prepare(
        Order(
            checkpoint=checkpoint,
            reference=parent.id,
            alias=parent.alias,
            learner=parent.learner,
            options=LearnerOptions.model_validate(parent.options, strict=False),
            support=support,
            query=query,
            ttl_s=parsed.settings.ttl_seconds,
            metadata=parsed.settings.metadata,
            parent=parent.id,
            follow=parent.follow,
        )
    )


async def _shown(state: State, model: AdaptedModel) -> api.AdaptedModel:
    return await pending_answer(state, model) if model.status in views.PENDING else views.adapted_model(model)


def _delete_states(objects: ObjectStore, attempts: dict[str, int]) -> None:
    for task_id, made in attempts.items():
        for key in state_keys(task_id, made):
            objects.delete(key)


def _check_id(id: str) -> None:
    if not is_id(id, "am"):
        raise NotFound("no adapted model with this id")
