"""Accepting a support set: one transaction records everything; the doorbell comes after the commit and may fail."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, KshotError, QueueFull
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet
from kshot.contracts.wire import Inputs
from kshot.inputs import input_shape
from kshot.storage import idempotency
from kshot.storage.access import audit
from kshot.storage.adapted_models import (
    AdaptedModel,
    NewAdaptedModel,
    extend,
    find_same,
    get_adapted_model,
    insert_adapted_model,
)
from kshot.storage.admission import count_open
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.fingerprints import fingerprint_of
from kshot.storage.tasks import NewTask, insert_task
from service.auth import Caller
from service.choosing import OpenChoice
from service.joint import count_targets
from service.labels import k_shot
from service.state import State
from service.views import PENDING


@dataclass(frozen=True)
class Order:
    """An adaptation a caller asks for, decoded and checked. ``reference`` is the checkpoint as the caller named it.

    With ``choice`` a worker chooses checkpoint and learner, which are None until then. ``follow``: the model moves on
    when ``alias`` does.
    """

    checkpoint: StoredCheckpoint | None
    reference: str
    alias: str | None
    learner: str | None
    options: LearnerOptions
    support: SupportSet
    query: Inputs | None
    ttl_s: int
    metadata: dict[str, Any]
    parent: str | None = None
    choice: OpenChoice | None = None
    follow: bool = False


@dataclass(frozen=True)
class Accepted:
    """The model that answers an order.

    ``own``: this request made it, or an earlier one with the same idempotency key; else an equal order did.
    ``answers``: the predictions stored with it are (or will be) the answers to this order's query.
    """

    model: AdaptedModel
    own: bool
    answers: bool


@dataclass(frozen=True)
class Prepared:
    """An order with everything that takes time to compute, so that the transaction stays short.

    ``fingerprint``: of what makes two models the same; where the checkpoint is to be chosen, that is what it is chosen
    among. ``support``: of the examples alone. ``content``: the part of the fingerprint that stays when the model moves
    to another checkpoint. ``digest``: of what makes two requests the same; it holds the checkpoint's name as sent, so
    that a retry stays a retry where an alias moved in between.
    """

    order: Order
    payload: bytes
    payload_sha256: bytes
    support: str
    content: str
    fingerprint: str
    digest: str


def prepare(order: Order) -> Prepared:
    """Encode the payload and hash what makes two orders the same."""
    support, choice = order.support, order.choice
    columns = [column.model_dump(mode="json") for column in support.columns]
    what = [list(support.classes), columns, list(support.targets.shape), support.task]
    labels = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    labels.update(support.targets.tobytes())
    examples, request = labels.copy(), labels
    for inputs in _forms(order):
        _update(examples, inputs)
    made = [examples.hexdigest(), order.options.model_dump(mode="json"), order.parent]
    content = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    fingerprint = fingerprint_of(content, _made_with(order), support.task, _follows(order))
    if choice is None:
        _update(request, support.inputs)
    else:
        request.update(choice.sent)
    asked = [*made[1:], order.reference, order.ttl_s, order.metadata, order.follow]
    request.update(json.dumps(asked, sort_keys=True).encode())
    if choice is None:
        _update(request, order.query)
    payload = _payload(order).encode()
    return Prepared(
        order,
        payload,
        payload_sha256=hashlib.sha256(payload).digest(),
        support=examples.hexdigest(),
        content=content,
        fingerprint=fingerprint,
        digest=request.hexdigest(),
    )


def _follows(order: Order) -> str | None:
    if not order.follow or order.checkpoint is None:
        return None
    return f"{order.checkpoint.manifest.name}@{order.alias}"


def _forms(order: Order) -> list[Inputs]:
    """The examples in all forms asked for: pictures that one of them cannot tell apart differ in another."""
    others = () if order.choice is None else order.choice.others
    return [order.support.inputs, *(form.inputs for form in others)]


def _made_with(order: Order) -> list[Any]:
    """The checkpoint and the learner, or all that they are chosen among."""
    if order.choice is not None:
        return sorted([candidate.checkpoint.id, candidate.learner] for candidate in order.choice.candidates)
    assert order.checkpoint is not None
    return [order.checkpoint.id, order.learner]


def _payload(order: Order) -> Payload:
    choice = order.choice
    if choice is None:
        return Payload(order.support, order.query, order.options)
    return Payload(order.support, order.query, order.options, candidates=choice.candidates, others=choice.others)


async def accept(
    state: State, caller: Caller, prepared: Prepared, idempotency_key: str | None, request_id: str | None
) -> Accepted:
    """Record the order, or find the model that answers it already. QueueFull where too much is open."""
    new_model, new_task = _rows(state, caller, prepared, request_id)
    async with state.database.transaction() as connection:

        async def note(action: str, id: str) -> None:
            await audit(
                connection, tenant=caller.tenant, key=caller.key, action=action, object_id=id, request_id=request_id
            )

        if idempotency_key is not None:
            replayed = await _replayed(connection, caller.tenant, idempotency_key, prepared.digest, new_model.id)
            if replayed is not None:
                return replayed
        found = await _insert(connection, state, caller, new_model, prepared.payload_sha256)
        if found is not None:
            same, asked = found
            if idempotency_key is not None:
                await idempotency.rebind(connection, caller.tenant, idempotency_key, same.id)
            await note("adapted_model.extend", same.id)
            extended = await extend(connection, same, prepared.order.ttl_s)
            return Accepted(extended, own=False, answers=asked)
        await insert_task(connection, new_task)
        await note("adapted_model.create", new_model.id)
        model = await get_adapted_model(connection, caller.tenant, new_model.id)
    state.in_background(state.queue.ring(new_task.id))
    return Accepted(model, own=True, answers=True)


async def _replayed(connection: AsyncConnection, tenant: str, key: str, digest: str, new_id: str) -> Accepted | None:
    """The model this key stands for; None where the key is new. A model that failed through no fault of the caller's
    frees its key: the retry deserves another try."""
    while (bound := await idempotency.take(connection, tenant, key, digest, new_id)).object_id != new_id:
        model = await get_adapted_model(connection, tenant, bound.object_id)
        if model.failure is None or model.failure.code != KshotError.code:
            own = bound.at == model.created_at
            return Accepted(model, own=own, answers=own and model.revision == 1)
        await idempotency.free(connection, tenant, key, model.id)
    return None


async def _insert(
    connection: AsyncConnection, state: State, caller: Caller, new_model: NewAdaptedModel, payload_sha256: bytes
) -> tuple[AdaptedModel, bool] | None:
    """Insert the model; the one with the same fingerprint where there is one, also one that a parallel request
    committed between our look and our insert. Beside it: whether its predictions will be those asked for here.

    One that is not made yet will hold its own order's predictions, so it serves an order of the same query alone;
    any other order gets a model of its own, which nobody else will find.
    """
    assert new_model.fingerprint is not None
    found = await find_same(connection, caller.tenant, new_model.fingerprint, payload_sha256)
    if found is None:
        await _check_room(connection, state, caller)
        if await insert_adapted_model(connection, new_model):
            return None
        found = await find_same(connection, caller.tenant, new_model.fingerprint, payload_sha256)
        if found is None:
            raise Conflict("an equal adapted model was just deleted; try again", retry_after=1)
    same, asked = found
    if asked or same.status not in PENDING:
        return found
    await _check_room(connection, state, caller)
    await insert_adapted_model(connection, replace(new_model, fingerprint=None))
    return None


async def _check_room(connection: AsyncConnection, state: State, caller: Caller) -> None:
    everyone, own = await count_open(connection, caller.tenant)
    if own >= state.settings.max_open_per_tenant or everyone >= state.settings.max_open_tasks:
        raise QueueFull("too many adaptations are waiting; try again later", retry_after=1 + everyone / 500)


def _rows(state: State, caller: Caller, prepared: Prepared, request_id: str | None) -> tuple[NewAdaptedModel, NewTask]:
    order = prepared.order
    checkpoint, support = order.checkpoint, order.support
    model = NewAdaptedModel(
        id=new_id("am"),
        tenant=caller.tenant,
        checkpoint=None if checkpoint is None else checkpoint.id,
        checkpoint_name=None if checkpoint is None else checkpoint.manifest.name,
        alias=order.alias,
        learner=order.learner,
        options=order.options.model_dump(mode="json", exclude_none=True),
        task=support.task,
        classes=support.classes,
        k_shot=k_shot(support.targets, support.classes),
        targets=count_targets(support.targets, support.columns),
        n_support=len(support),
        input_shape=input_shape(support.inputs),
        fingerprint=prepared.fingerprint,
        parent=order.parent,
        metadata=order.metadata,
        ttl_s=order.ttl_s,
        task_id=new_id("task"),
        support=prepared.support,
        content=prepared.content,
        follow=order.follow,
    )
    task = NewTask(
        id=model.task_id,
        tenant=caller.tenant,
        adapted_model=model.id,
        checkpoint=model.checkpoint,
        learner=model.learner,
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
