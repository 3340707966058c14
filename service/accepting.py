"""Accepting a support set: one transaction, or one statement for several, records everything; the doorbell comes after
the commit and may fail."""

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot import tracing
from kshot.contracts.errors import Conflict, KshotError, QueueFull
from kshot.contracts.ids import new_id
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
from kshot.storage.orders import NewOrder
from kshot.storage.quotas import check_models
from kshot.storage.tasks import NewTask, insert_task
from kshot.storage.tenancy import unconfined
from service.auth import Caller
from service.joint import count_targets
from service.labels import k_shot
from service.preparing import Prepared
from service.state import State
from service.views import PENDING


@dataclass(frozen=True)
class Accepted:
    """The model that answers an order.

    ``own``: this request made it, or an earlier one with the same idempotency key; else an equal order did.
    ``answers``: the predictions stored with it are (or will be) the answers to this order's query.
    """

    model: AdaptedModel
    own: bool
    answers: bool


async def accept(
    state: State, caller: Caller, prepared: Prepared, new: NewOrder, idempotency_key: str | None
) -> Accepted:
    """Record the order, or find the model that answers it already. QueueFull where too much is open.

    ``new``: what is to be recorded (`as_order`).
    """
    alone = idempotency_key is not None or caller.quotas.bound_models
    made = None if alone else await state.committer.record(new)
    if made is None:
        asked = await state.compute(prepared.n_bytes, prepared.asked)
        accepted = await _accept_alone(state, caller, prepared, new, asked, idempotency_key)
    else:
        accepted = Accepted(made, own=True, answers=True)
    if accepted.model.task_id == new.task.id:
        state.in_background(state.queue.ring(new.task.id))
    return accepted


async def _accept_alone(
    state: State, caller: Caller, prepared: Prepared, new: NewOrder, asked: bytes, idempotency_key: str | None
) -> Accepted:
    """In a transaction of its own: an order with an idempotency key, or of a tenant whose models are counted, or
    something stands against recording it."""
    async with state.database.of_tenant(caller.tenant) as connection:

        async def note(action: str, id: str) -> None:
            await audit(
                connection,
                tenant=caller.tenant,
                key=caller.key,
                action=action,
                object_id=id,
                request_id=new.task.request_id,
            )

        if idempotency_key is not None:
            replayed = await _replayed(connection, caller.tenant, idempotency_key, prepared.digest, new.model.id)
            if replayed is not None:
                return replayed
        found = await _insert(connection, state, caller, new, asked)
        if found is not None:
            same, its_query = found
            if idempotency_key is not None:
                await idempotency.rebind(connection, caller.tenant, idempotency_key, same.id)
            await note("adapted_model.extend", same.id)
            extended = await extend(connection, same, prepared.order.ttl_s)
            return Accepted(extended, own=False, answers=its_query)
        await insert_task(connection, new.task)
        await note("adapted_model.create", new.model.id)
        model = await get_adapted_model(connection, caller.tenant, new.model.id)
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
    connection: AsyncConnection, state: State, caller: Caller, new: NewOrder, asked: bytes
) -> tuple[AdaptedModel, bool] | None:
    """Insert the model; the one with the same fingerprint where there is one, also one that a parallel request
    committed between our look and our insert. Beside it: whether its predictions will be those asked for here.

    One that is not made yet will hold its own order's predictions, so it serves an order of the same query alone;
    any other order gets a model of its own, which nobody else will find.
    """
    assert new.model.fingerprint is not None
    found = await find_same(connection, caller.tenant, new.model.fingerprint, asked)
    if found is None:
        await _check_room(connection, state, caller, new)
        if await insert_adapted_model(connection, new.model):
            return None
        found = await find_same(connection, caller.tenant, new.model.fingerprint, asked)
        if found is None:
            raise Conflict("an equal adapted model was just deleted; try again", retry_after=1)
    same, its_query = found
    if its_query or same.status not in PENDING:
        return found
    await _check_room(connection, state, caller, new)
    await insert_adapted_model(connection, replace(new.model, fingerprint=None))
    return None


async def _check_room(connection: AsyncConnection, state: State, caller: Caller, new: NewOrder) -> None:
    async with unconfined(connection):
        everyone, own = await count_open(connection, caller.tenant)
    if own >= state.settings.max_open_per_tenant or everyone >= state.settings.max_open_tasks:
        raise QueueFull("too many adaptations are waiting; try again later", retry_after=1 + everyone / 500)
    await check_models(connection, caller.tenant, caller.quotas, len(new.task.payload))


def as_order(state: State, caller: Caller, prepared: Prepared, request_id: str | None) -> NewOrder:
    """What is to be recorded of an order, under fresh ids."""
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
        query=prepared.query,
        trace=tracing.carried(),
    )
    return NewOrder(model, task, caller.key)
