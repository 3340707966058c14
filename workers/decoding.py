"""From what was claimed or delivered to work that can be batched: one item at a time, so that a bad one fails alone."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from kshot.contracts.errors import Invalid
from kshot.contracts.methods import JOINT_LEARNER
from kshot.contracts.selection import AUTO, Candidate
from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet
from kshot.contracts.wire import Inputs
from kshot.inputs import input_shape
from kshot.learners.registry import get_learner
from kshot.queue.work import Delivered
from kshot.storage.results import Chosen
from kshot.storage.tasks import Claim
from workers.models import Models
from workers.work import Key, Operation, Work

_LARGE = 1 << 18

A = TypeVar("A")
R = TypeVar("R")


async def in_thread_if_large(decode: Callable[[A], R], item: A, n_bytes: int) -> R:
    """``decode(item)``, beside the event loop where that would be noticed there: heartbeats must not wait for it."""
    return await asyncio.to_thread(decode, item) if n_bytes > _LARGE else decode(item)


def adapt_work(claim: Claim) -> Work:
    """The work of a claimed task. Raises Invalid where its payload is none."""
    payload = _payload_of(claim)
    if payload.support is None:
        raise Invalid("the task holds no support set", param="support")
    _check_query(payload.query, input_shape(payload.support.inputs), "query.inputs")
    if payload.candidates:
        return Work(_open_key("adapt", payload.support), claim, payload)
    assert claim.checkpoint is not None and claim.learner is not None
    key = _support_key(claim.checkpoint, "adapt", claim.learner, payload.support, payload.options)
    return Work(replace(key, background=claim.background), claim, payload)


def _payload_of(claim: Claim) -> Payload:
    """The support and what was asked with it, which may lie in a column of its own."""
    payload = Payload.decode(claim.payload)
    if claim.query is None:
        return payload
    asked = Payload.decode(claim.query)
    return replace(payload, query=asked.query, answer=asked.answer)


def decided_work(work: Work, candidate: Candidate, chosen: Chosen, started: float) -> Work:
    """The work, with this candidate as its checkpoint, on its way again; choosing began at ``started``."""
    payload, now = work.payload.of(candidate), time.monotonic()
    assert payload.support is not None
    key = _support_key(candidate.checkpoint.id, work.key.operation, candidate.learner, payload.support, payload.options)
    return Work(
        key,
        work.origin,
        payload,
        chosen=chosen,
        queued_ms=(started - work.arrived) * 1000,
        computed_ms=(now - started) * 1000,
        arrived=now,
    )


async def predict_work(delivered: Delivered, models: Models) -> Work:
    """The work of a predict call; reads the adapted model where it is not in memory, and its
    examples where the answer names some. Raises as `Models.adapted` and `Models.support`."""
    payload = await in_thread_if_large(Payload.decode, delivered.payload, len(delivered.payload))
    call, query = delivered.call, payload.query
    if query is None:
        raise Invalid("the call asks nothing", param="inputs")
    if call.model is None:
        return await _oneshot(delivered, payload, models)
    model = await models.adapted(call.tenant, call.model, call.task)
    _check_query(query, model.shape, "inputs")
    if payload.wants_nearest:
        payload = replace(payload, support=await models.support(call.tenant, call.model))
    options = LearnerOptions()
    key = Key(model.checkpoint, "predict", model.learner, options, model.state.task, input_shape(query))
    return Work(key, delivered, payload, model)


async def _oneshot(delivered: Delivered, payload: Payload, models: Models) -> Work:
    checkpoint = delivered.call.checkpoint
    if payload.support is None:
        raise Invalid("the call names no model and brings no support set", param="model")
    _check_query(payload.query, input_shape(payload.support.inputs), "inputs")
    if payload.candidates:
        return Work(_open_key("oneshot", payload.support), delivered, payload)
    learner = payload.options.learner
    if learner is None:
        joint = payload.support.task == "multitask"
        learner = JOINT_LEARNER if joint else (await models.checkpoint(checkpoint)).manifest.learner.name
    return Work(_support_key(checkpoint, "oneshot", learner, payload.support, payload.options), delivered, payload)


def _open_key(operation: Operation, support: SupportSet) -> Key:
    return Key(AUTO, operation, AUTO, LearnerOptions(), support.task, input_shape(support.inputs))


def _support_key(
    checkpoint: str, operation: Operation, learner: str, support: SupportSet, options: LearnerOptions
) -> Key:
    honoured = options.model_dump(include=set(get_learner(learner).options))
    return Key(
        checkpoint, operation, learner, LearnerOptions(**honoured), support.task, input_shape(support.inputs)
    )  # fmt: skip


def _check_query(query: Inputs | None, shape: tuple[int, ...], param: str) -> None:
    """The service checked it; but one odd row must not reach a batch with its neighbours."""
    if query is not None and input_shape(query) != shape:
        raise Invalid(f"an input has shape {input_shape(query)}; this model takes {shape}", param=param)
