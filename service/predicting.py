"""Predictions: sent to a worker through Redis whole, answered on the reply stream."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from kshot import tracing
from kshot.contracts.errors import (
    Conflict,
    DeadlinePassed,
    Invalid,
    KshotError,
    QueueFull,
    Unavailable,
    rebuild,
)
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import AnswerOptions, PredictCall, Reply, TargetSpec
from kshot.queue.streams import Away
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.lookups import Servable
from service.auth import Caller
from service.calls import Call, call_of
from service.errors import request_id_of
from service.state import State
from service.views import PENDING

_PARTS: dict[str, tuple[str, ...]] = {
    "classification": ("labels", "probabilities", "logits", "nearest"),
    "regression": ("values", "nearest"),
}


@dataclass(frozen=True)
class Question:
    """What to predict: with a stored adapted model, or (``model`` None) with the support in the encoded payload.

    ``checkpoint`` is AUTO where a worker is to choose among the payload's candidates. ``task`` made the model's state
    that is to answer.
    """

    checkpoint: str
    model: str | None
    payload: bytes
    store: bool = False
    task: str | None = None


async def ask(
    state: State, caller: Caller, question: Question, request: Request, deadline_s: float | None = None
) -> tuple[str, Reply]:
    """The prediction's id and a worker's answer.

    ``deadline_s``: how long after the request came its caller waits, where he said so.
    Unavailable: no live worker, or Redis away. QueueFull: too many open. DeadlinePassed. Else the worker's failure.
    ClientDisconnect: nobody waits for it any more.
    """
    call = call_of(request)
    left_s = state.settings.predict_deadline_s
    if deadline_s is not None:
        left_s = min(left_s, max(0.0, call.started + deadline_s - time.monotonic()))
    if not await state.workers():
        raise Unavailable("no worker is alive; try again", retry_after=2)
    await _check_backlog(state)
    message = PredictCall(
        id=new_id("pred"),
        tenant=caller.tenant,
        checkpoint=question.checkpoint,
        model=question.model,
        task=question.task,
        reply_to=state.queue.reply_to,
        deadline_ms=round(left_s * 1000),
        store_inputs=question.store,
        request_id=request_id_of(request) or "",
    )
    reply = await _send(state, call, message, question.payload, left_s)
    if reply.failure is not None:
        raise rebuild(reply.failure.code, reply.failure.message, reply.failure.param)
    return message.id, reply


def require_ready(model: AdaptedModel | Servable) -> None:
    """Raises Conflict where the model cannot predict (yet)."""
    if model.status in PENDING:
        raise Conflict("this adapted model is still being made; ask again", param="model", retry_after=1)
    if model.failure is not None:
        raise Conflict(f"this adapted model failed: {model.failure.message}", param="model")


def check_answer(answer: AnswerOptions, task: str, targets: Sequence[TargetSpec], wanted: bool) -> None:
    """Raises Invalid for parts of an answer that this kind of task, or none of its targets, has."""
    kinds: set[str] = {target.kind for target in targets} or {task}
    parts = {part for kind in kinds for part in _PARTS[kind]}
    if wanted and not set(answer.wanted) <= parts:
        raise Invalid(f"this model returns {', '.join(sorted(parts))}", param="return")
    if "classification" not in kinds and (answer.top_k is not None or answer.reject_below is not None):
        raise Invalid("top_k and reject_below need classes", param="reject_below" if answer.reject_below else "top_k")


async def _send(state: State, call: Call, message: PredictCall, payload: bytes, left_s: float) -> Reply:
    """Send and wait: one future, which the reply, the deadline, the caller's leaving or a Redis that is away ends."""
    call.require_caller()
    future = state.queue.expect(message.id)
    call.watch(future)
    late = DeadlinePassed("no worker answered in time; try again", retry_after=1)
    timer = asyncio.get_running_loop().call_later(left_s, _end, future, late)
    sent = state.queue.post(message, payload, tracing.carried())
    sent.add_done_callback(lambda sent: _end(future, _redis_away()) if _failed(sent) else None)
    try:
        with tracing.span("await worker"):
            return await future
    except (DeadlinePassed, ClientDisconnect) as error:
        state.metrics.dropped("expired" if isinstance(error, DeadlinePassed) else "abandoned")
        state.queue.withdraw(message.id, sent)
        raise
    finally:
        timer.cancel()
        sent.cancel()
        state.queue.forget(message.id, future)


def _end(future: "asyncio.Future[Reply]", error: KshotError) -> None:
    if not future.done():
        future.set_exception(error)


def _failed(sent: "asyncio.Future[bytes]") -> bool:
    return not sent.cancelled() and sent.exception() is not None


async def _check_backlog(state: State) -> None:
    try:
        backlog = await state.queue.backlog(state.settings.max_open_tasks)
    except Away:
        raise _redis_away() from None
    if backlog >= state.settings.max_open_tasks:
        raise QueueFull("too many predictions are waiting; try again later", retry_after=1)


def _redis_away() -> Unavailable:
    return Unavailable("the queue is away; adaptations are still accepted, predictions need it", retry_after=2)
