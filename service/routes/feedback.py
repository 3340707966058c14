"""Feedback on adapted models: true labels of queries."""

import hashlib
import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts import flywheel_bodies
from kshot.contracts.errors import Invalid, NotFound
from kshot.contracts.ids import is_id, new_id
from kshot.contracts.tasks import Payload
from kshot.storage import idempotency
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.feedback import (
    NewFeedback,
    RecordedPrediction,
    get_feedback,
    get_prediction,
    insert_feedback,
)
from kshot.storage.results import get_support
from service import flywheel_views, views
from service.adapting import IdempotencyDep
from service.auditing import note
from service.auth import Caller, CallerDep
from service.bodies.requests import Parsed, parse_feedback
from service.bodies.stream import ANY, read_raw
from service.feedback import Told, read_feedback
from service.finding import find_adapted_model
from service.openapi import body_of, problems
from service.predicting import require_ready
from service.state import State, StateDep

router = APIRouter(prefix="/adapted-models", tags=["adapted models"])


@router.post(
    "/{id}/feedback",
    summary="Tell the true labels of queries",
    status_code=201,
    response_model=flywheel_bodies.Feedback,
    openapi_extra=body_of(flywheel_bodies.FeedbackRequest),
    responses={
        200: {"model": flywheel_bodies.Feedback, "description": "The same Idempotency-Key recorded it before"},
        **problems(400, 403, 404, 409, 410, 413, 415, 422),
    },
)
async def give_feedback(
    id: str, request: Request, state: StateDep, caller: CallerDep, idempotency_key: IdempotencyDep
) -> Response:
    """Of queries of a recorded `prediction`, or of `inputs` sent along. It changes no answer: the adapted model shows
    how well it did (`observed`), and where the tenant lets us record (`PUT /v1/recording`), checkpoints learn from it.

    Erased with the model. To teach the model itself, add examples.
    """
    raw = await read_raw(request, state.settings.max_body_bytes, ANY)
    parsed = await state.read(raw, parse_feedback)
    model = await find_adapted_model(state, caller, id)
    require_ready(model)
    if model.task == "multitask":
        raise Invalid("feedback on models of several targets is not taken yet", param="labels")
    item = await _read(state, caller, model, parsed, raw.cost)
    digest = await state.compute(raw.cost, lambda: _digest(model.id, parsed))
    async with state.database.of_tenant(caller.tenant) as connection:
        if idempotency_key is not None:
            bound = await idempotency.take(connection, caller.tenant, idempotency_key, digest, item.id)
            if bound.object_id != item.id:
                before = await get_feedback(connection, caller.tenant, bound.object_id)
                return views.respond(flywheel_views.feedback(before))
        await insert_feedback(connection, item)
        await note(connection, request, caller, "feedback.create", item.id)
    return views.respond(flywheel_views.feedback(item), 201)


def _digest(model: str, parsed: Parsed[flywheel_bodies.FeedbackSettings]) -> str:
    """Of what was read: a form that is sent again has another boundary."""
    assert parsed.support is not None
    labels = [list(parsed.support.labels), parsed.support.named]
    digest = hashlib.sha256(json.dumps(["feedback", model, parsed.settings.prediction, labels]).encode())
    parsed.support.inputs.update(digest)
    return digest.hexdigest()


async def _read(
    state: State, caller: Caller, model: AdaptedModel, parsed: Parsed[flywheel_bodies.FeedbackSettings], n_bytes: int
) -> NewFeedback:
    support = parsed.support
    if support is None:
        raise Invalid("labels are missing", param="labels")
    manifest = (await state.checkpoint(model.made_with.id)).manifest
    prediction, n_targets = await _what_it_speaks_of(state, caller, model, parsed.settings.prediction)
    told = await state.compute(
        n_bytes,
        lambda: read_feedback(support, model, manifest, n_targets, prediction, state.settings),
        images=manifest.input.modality == "image",
    )
    return _row(caller, model, prediction, told)


async def _what_it_speaks_of(
    state: State, caller: Caller, model: AdaptedModel, prediction: str | None
) -> tuple[RecordedPrediction | None, int | None]:
    """The recorded prediction, and how many numbers a label of regression has."""
    async with state.database.of_tenant(caller.tenant) as connection:
        found, n_targets = None, None
        if prediction is not None:
            if not is_id(prediction, "pred"):
                raise NotFound("this model made no prediction with this id", param="prediction")
            found = await get_prediction(connection, caller.tenant, model.id, prediction)
        if model.task == "regression":
            support = Payload.decode(await get_support(connection, caller.tenant, model.id)).support
            assert support is not None
            n_targets = int(support.targets.shape[1])
    return found, n_targets


def _row(caller: Caller, model: AdaptedModel, prediction: RecordedPrediction | None, told: Told) -> NewFeedback:
    return NewFeedback(
        id=new_id("fb"),
        tenant=caller.tenant,
        adapted_model=model.id,
        prediction=None if prediction is None else prediction.id,
        checkpoint=None if prediction is None else prediction.checkpoint,
        payload=told.payload,
        n=told.n,
        n_answered=told.n_answered,
        n_correct=told.n_correct,
        squared_error=told.squared_error,
    )
