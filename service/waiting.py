"""Waiting for an adapted model: woken by the worker's reply, and by looking at the row, because Redis may be away."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from kshot.contracts import api
from kshot.contracts.errors import Unavailable
from kshot.contracts.tasks import Reply
from kshot.storage.adapted_models import AdaptedModel, get_adapted_model
from kshot.storage.admission import queue_position
from service import views
from service.calls import Call
from service.state import State
from service.views import PENDING

_FIRST_LOOK_S = 0.25
_LAST_LOOK_S = 1.0
_EXPONENT_FROM = 1e16


@contextmanager
def expecting(state: State, task_id: str) -> Iterator["asyncio.Future[Reply]"]:
    """The reply to a task. Begin before it is recorded: a worker may be faster than whoever waits."""
    reply = state.queue.expect(task_id)
    try:
        yield reply
    finally:
        state.queue.forget(task_id, reply)


async def wait_until_done(
    state: State, call: Call, model: AdaptedModel, wait_s: float, reply: "asyncio.Future[Reply] | None" = None
) -> AdaptedModel:
    """The model once it is no longer pending, or as it is after ``wait_s`` seconds. ``reply``: to its task, where that
    is expected already.

    Unavailable: Postgres is away when that time is over. ClientDisconnect: the caller left.
    """
    if model.status not in PENDING or wait_s <= 0:
        return model
    deadline = time.monotonic() + wait_s
    if reply is not None:
        return await _look_until_done(state, call, model, reply, deadline)
    with expecting(state, model.task_id) as its_reply:
        return await _look_until_done(state, call, model, its_reply, deadline)


async def pending_answer(state: State, model: AdaptedModel) -> api.AdaptedModel:
    """A pending model with what the caller may expect."""
    async with state.database.single() as connection:
        position = await queue_position(connection, model.created_at)
    queue_state = model.status if model.status == "running" or await state.workers() else "no_worker"
    retry_after_ms = min(5000, 250 + 20 * position)
    update = {"queue_state": queue_state, "position": position, "retry_after_ms": retry_after_ms}
    return views.adapted_model(model).model_copy(update=update)


async def _look_until_done(
    state: State, call: Call, model: AdaptedModel, reply: "asyncio.Future[Reply]", deadline: float
) -> AdaptedModel:
    call.watch(reply)
    pause, heard, away = _FIRST_LOOK_S, False, None
    while model.status in PENDING and (left := deadline - time.monotonic()) > 0:
        if heard:  # but the row is not final yet: the attempt was lost and another one runs
            await asyncio.sleep(min(pause, left))
            call.require_caller()
        else:
            await asyncio.wait([reply], timeout=min(pause, left))
            heard = reply.done()
            if heard and (made := _made(model, reply.result())) is not None:
                return made
        pause = min(_LAST_LOOK_S, 2 * pause)
        try:
            async with state.database.of_tenant(model.tenant) as connection:
                model, away = await get_adapted_model(connection, model.tenant, model.id), None
        except Unavailable as error:  # it may come back within the time, and so may the reply
            away = error
    if away is not None:
        raise away
    return model


def _made(model: AdaptedModel, reply: Reply) -> AdaptedModel | None:
    """The model as its row tells it now, from the reply alone: that is sent once the row is committed. None where a
    reply does not hold all of it: of failures, of several targets, of a checkpoint that a worker chose."""
    if reply.failure is not None or reply.timings is None or model.task == "multitask" or model.checkpoint is None:
        return None
    return replace(
        model,
        status="succeeded",
        quality=None if reply.quality is None else reply.quality.model_dump(),
        predictions=None if reply.predictions is None else [_as_stored(one) for one in reply.predictions],
        timings=reply.timings.model_dump(),
    )


def _as_stored(prediction: dict[str, Any]) -> dict[str, Any]:
    """As Postgres keeps it, so that reading it later gives the same bytes: shorter keys first, and a float that is
    written with an exponent (from 1e16 on) as the integer of those digits; nor has zero a sign."""
    ordered = sorted(prediction.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
    return {key: _value_as_stored(value) for key, value in ordered}


def _value_as_stored(value: Any) -> Any:
    if isinstance(value, dict):
        return _as_stored(value)
    if isinstance(value, list):
        return [_value_as_stored(one) for one in value]
    if isinstance(value, float):
        return int(Decimal(repr(value))) if abs(value) >= _EXPONENT_FROM else value + 0.0
    return value
