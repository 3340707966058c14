"""Accepting a support set: one transaction records everything; the doorbell comes after the commit and may fail."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, QueueFull
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet
from kshot.contracts.wire import Inputs
from kshot.inputs import input_shape
from kshot.storage import idempotency
from kshot.storage.access import audit
from kshot.storage.adapted_models import (
    AdaptedModel,
    NewAdaptedModel,
    find_same,
    get_adapted_model,
    insert_adapted_model,
)
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.tasks import NewTask, count_open, insert_task
from service.auth import Caller
from service.labels import k_shot
from service.state import State


@dataclass(frozen=True)
class Order:
    """An adaptation a caller asks for, decoded and checked."""

    checkpoint: StoredCheckpoint
    alias: str | None
    learner: str
    options: LearnerOptions
    support: SupportSet
    query: Inputs | None
    ttl_s: int
    metadata: dict[str, Any]
    parent: str | None = None


@dataclass(frozen=True)
class Accepted:
    """``how``: a new model, the one an idempotency key made before, or one with the same support."""

    model: AdaptedModel
    how: Literal["new", "replayed", "same"]


@dataclass(frozen=True)
class Prepared:
    """An order with everything that takes time to compute, so that the transaction stays short."""

    order: Order
    payload: bytes
    fingerprint: str
    digest: str


def prepare(order: Order) -> Prepared:
    """Encode the payload and hash what makes two requests the same."""
    payload = Payload(order.support, order.query, order.options).encode()
    what = [order.checkpoint.id, order.learner, order.options.model_dump(mode="json"), order.support.task,
            list(order.support.classes), list(order.support.targets.shape)]  # fmt: skip
    same = hashlib.sha256(json.dumps(what).encode())
    same.update(order.support.targets.tobytes())
    _update(same, order.support.inputs)
    whole = same.copy()
    _update(whole, order.query)
    whole.update(json.dumps([order.ttl_s, order.metadata, order.parent], sort_keys=True).encode())
    return Prepared(order, payload, same.hexdigest(), whole.hexdigest())


async def accept(
    state: State, caller: Caller, prepared: Prepared, idempotency_key: str | None, request_id: str | None
) -> Accepted:
    """Record the order, or find the model that answers it already. QueueFull where too much is open."""
    new_model, new_task = _rows(state, caller, prepared, request_id)
    async with state.database.transaction() as connection:
        if idempotency_key is not None:
            bound = await idempotency.take(connection, caller.tenant, idempotency_key, prepared.digest, new_model.id)
            if bound != new_model.id:
                return Accepted(await get_adapted_model(connection, caller.tenant, bound), "replayed")
        same = await _insert(connection, state, caller, new_model)
        if same is not None:
            if idempotency_key is not None:
                await idempotency.rebind(connection, caller.tenant, idempotency_key, same.id)
            return Accepted(same, "same")
        await insert_task(connection, new_task)
        await audit(
            connection,
            tenant=caller.tenant,
            key=caller.key,
            action="adapted_model.create",
            object_id=new_model.id,
            request_id=request_id,
        )
        model = await get_adapted_model(connection, caller.tenant, new_model.id)
    state.in_background(state.queue.ring(new_task.id))
    return Accepted(model, "new")


async def _insert(
    connection: AsyncConnection, state: State, caller: Caller, new_model: NewAdaptedModel
) -> AdaptedModel | None:
    """Insert the model; the one with the same fingerprint where there is one, also one that a parallel request
    committed between our look and our insert."""
    assert new_model.fingerprint is not None
    same = await find_same(connection, caller.tenant, new_model.fingerprint)
    if same is not None:
        return same
    await _check_room(connection, state, caller)
    if await insert_adapted_model(connection, new_model):
        return None
    same = await find_same(connection, caller.tenant, new_model.fingerprint)
    if same is None:
        raise Conflict("an equal adapted model was just deleted; try again", retry_after=1)
    return same


async def _check_room(connection: AsyncConnection, state: State, caller: Caller) -> None:
    everyone, own = await count_open(connection, caller.tenant)
    if own >= state.settings.max_open_per_tenant or everyone >= state.settings.max_open_tasks:
        raise QueueFull("too many adaptations are waiting; try again later", retry_after=1 + everyone / 500)


def _rows(state: State, caller: Caller, prepared: Prepared, request_id: str | None) -> tuple[NewAdaptedModel, NewTask]:
    order = prepared.order
    model = NewAdaptedModel(
        id=new_id("am"),
        tenant=caller.tenant,
        checkpoint=order.checkpoint.id,
        checkpoint_name=order.checkpoint.manifest.name,
        alias=order.alias,
        learner=order.learner,
        options=order.options.model_dump(mode="json", exclude_none=True),
        task=order.support.task,
        classes=order.support.classes,
        k_shot=k_shot(order.support.targets, order.support.classes),
        n_support=len(order.support),
        input_shape=input_shape(order.support.inputs),
        fingerprint=prepared.fingerprint,
        parent=order.parent,
        metadata=order.metadata,
        ttl_s=order.ttl_s,
    )
    task = NewTask(
        id=new_id("task"),
        tenant=caller.tenant,
        adapted_model=model.id,
        checkpoint=order.checkpoint.id,
        payload=prepared.payload,
        reply_to=state.queue.reply_to,
        request_id=request_id,
    )
    return model, task


def _update(digest: "hashlib._Hash", inputs: Inputs | None) -> None:
    """Texts go in as JSON, so that ["ab"] and ["a", "b"] differ; arrays with their shape."""
    if inputs is None:
        digest.update(b"none")
    elif isinstance(inputs, list):
        digest.update(json.dumps(inputs).encode())
    else:
        digest.update(str(inputs.shape).encode())
        digest.update(inputs.tobytes())
