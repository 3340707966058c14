"""Waiting for an adapted model: woken by the worker's reply, and by looking at the row, because Redis may be away."""

import asyncio
import time

from kshot.contracts import api
from kshot.contracts.tasks import Reply
from kshot.storage.adapted_models import AdaptedModel, get_adapted_model
from kshot.storage.admission import queue_position
from service import views
from service.state import State
from service.views import PENDING

_FIRST_LOOK_S = 0.25
_LAST_LOOK_S = 1.0


async def wait_until_done(state: State, model: AdaptedModel, wait_s: float) -> AdaptedModel:
    """The model once it is no longer pending, or as it is after ``wait_s`` seconds."""
    if model.status not in PENDING or wait_s <= 0:
        return model
    reply = state.queue.expect(model.task_id)
    try:
        return await _look_until_done(state, model, reply, time.monotonic() + wait_s)
    finally:
        state.queue.forget(model.task_id)


async def pending_answer(state: State, model: AdaptedModel) -> api.AdaptedModel:
    """A pending model with what the caller may expect."""
    async with state.database.reading() as connection:
        position = await queue_position(connection, model.created_at)
    queue_state = model.status if model.status == "running" or await state.workers() else "no_worker"
    retry_after_ms = min(5000, 250 + 20 * position)
    update = {"queue_state": queue_state, "position": position, "retry_after_ms": retry_after_ms}
    return views.adapted_model(model).model_copy(update=update)


async def _look_until_done(
    state: State, model: AdaptedModel, reply: "asyncio.Future[Reply]", deadline: float
) -> AdaptedModel:
    pause = _FIRST_LOOK_S
    while model.status in PENDING and (left := deadline - time.monotonic()) > 0:
        if reply.done():  # it came, but the row is not final yet: the attempt was lost and another one runs
            await asyncio.sleep(min(pause, left))
        else:
            await asyncio.wait([reply], timeout=min(pause, left))
        pause = min(_LAST_LOOK_S, 2 * pause)
        async with state.database.reading() as connection:
            model = await get_adapted_model(connection, model.tenant, model.id)
    return model
