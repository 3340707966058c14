"""From a prepared order to an answer: 201 with the model, 200 with one that exists, 202 while it is made."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request
from starlette.responses import Response

from kshot import tracing
from kshot.contracts import api
from kshot.contracts.errors import KshotError, NotFound, Unavailable, rebuild
from kshot.contracts.tasks import Payload
from kshot.storage.adapted_models import AdaptedModel
from service import views
from service.accepting import accept, as_order
from service.auth import Caller
from service.calls import call_of
from service.errors import request_id_of
from service.meaning import read_query
from service.openapi import Responses, problems
from service.predicting import Question, ask
from service.prefer import Preference
from service.preparing import Order, Prepared
from service.state import State
from service.waiting import expecting, pending_answer, wait_until_done

RESPONSES: Responses = {
    200: {
        "model": api.AdaptedModel,
        "description": "The same support, checkpoint, options, `follow` and parent were adapted before; with `auto`, "
        "the same checkpoints in production to choose among. That model keeps its metadata, and expires at the later "
        "of its own time and this request's `ttl_seconds`",
    },
    202: {"model": api.AdaptedModel, "description": "Accepted; follow Location"},
    **problems(400, 403, 404, 409, 410, 413, 415, 422, 504),
}
"""Of every route that ends in `answer_order`."""


async def get_idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="The same key and body create once; kept 24 h",
        ),
    ] = None,
) -> str | None:
    """The request's idempotency key."""
    return idempotency_key


IdempotencyDep = Annotated[str | None, Depends(get_idempotency_key)]


async def answer_order(
    request: Request, state: State, caller: Caller, prepared: Prepared, key: str | None, preference: Preference
) -> Response:
    """Accept, wait as long as the caller prefers, answer. Raises what accepting raises, and the worker's failure.

    What was accepted is said to be, though Postgres leaves before it is made: a 202 then, as where it takes longer.
    """
    new = as_order(state, caller, prepared, request_id_of(request))
    call = call_of(request)
    call.require_caller()  # what is recorded stays, whoever leaves
    with expecting(state, new.task.id) as reply:
        with tracing.span("record"):
            accepted = await accept(state, caller, prepared, new, key)
        own_reply = reply if accepted.model.task_id == new.task.id else None
        with tracing.span("await worker"):
            try:
                model = await wait_until_done(state, call, accepted.model, preference.wait_s, own_reply)
            except Unavailable:
                model = accepted.model
    headers = {"Location": f"/v1/adapted-models/{model.id}", **preference.headers}
    if model.status in views.PENDING:
        body = await _pending(state, model)
        return views.respond(body, 202, {**headers, "Retry-After": "1"})
    if model.failure is not None:
        raise rebuild(model.failure.code, model.failure.message, model.failure.param)
    if model.status != "succeeded":
        raise NotFound("this adapted model was deleted")
    body = views.adapted_model(model)
    if not accepted.answers:
        predictions = await _predict_again(request, state, caller, model, prepared)
        body = body.model_copy(update={"predictions": predictions})
    return views.respond(body, 201 if accepted.own else 200, headers)


async def _pending(state: State, model: AdaptedModel) -> api.AdaptedModel:
    """With what the caller may expect, where Postgres can be asked."""
    try:
        return await pending_answer(state, model)
    except Unavailable:
        return views.adapted_model(model)


async def _predict_again(
    request: Request, state: State, caller: Caller, model: AdaptedModel, prepared: Prepared
) -> list[dict[str, Any]] | None:
    """The answers to this order's query from a model that another order made."""
    order = prepared.order
    if order.query is None:
        return None
    payload = prepared.query or await _query_for(state, order, model)
    question = Question(model.made_with.id, model.id, payload, task=model.task_id)
    try:
        _, reply = await ask(state, caller, question, request)
    except KshotError as error:
        if error.param is not None and error.param.startswith("inputs"):
            error.param = f"query.{error.param}"  # as the caller named them
        raise
    return reply.predictions


async def _query_for(state: State, order: Order, model: AdaptedModel) -> bytes:
    """The query in the form the model takes: its checkpoint was chosen, and that may not be the order's first form."""
    assert order.choice is not None and order.choice.query is not None
    raw, spec = order.choice.query, (await state.checkpoint(model.made_with.id)).manifest.input

    def encode() -> bytes:
        return Payload(query=read_query(raw, spec, model.input_shape, state.settings)).encode()

    return await state.compute(len(raw), encode, images=spec.modality == "image")
