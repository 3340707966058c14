"""Adapted models: the noun a caller sees, joined with its task and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Expired, Invalid, NotFound
from kshot.contracts.selection import CheckpointRef
from kshot.contracts.tasks import CountedTarget, Failure, Label
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.tables import OPEN_TASK, adapted_models, results, seconds_from_now, tasks

UNKNOWN = "no adapted model with this id"
EXPIRED = "this adapted model has expired; adapt again, with a longer ttl_seconds or pinned"
NOTHING_TO_FOLLOW = "only a model whose checkpoint was named by an alias can follow it; adapt with name@alias"

_OPEN = tasks.c.status.in_(OPEN_TASK)


@dataclass(frozen=True)
class NewAdaptedModel:
    """An adapted model as accepted. ``checkpoint``, its name and ``learner`` are None where a worker chooses them.

    ``task_id``: of the task that will make it. ``support``: digest of its examples. ``content``: see `fingerprint_of`.
    """

    id: str
    tenant: str
    checkpoint: str | None
    checkpoint_name: str | None
    alias: str | None
    learner: str | None
    options: dict[str, Any]
    task: str
    classes: Sequence[Label]
    k_shot: Sequence[int]
    n_support: int
    input_shape: Sequence[int]
    fingerprint: str | None
    parent: str | None
    metadata: dict[str, Any]
    ttl_s: float | None
    task_id: str
    targets: Sequence[CountedTarget] = ()
    support: str | None = None
    content: str | None = None
    follow: bool = False


@dataclass(frozen=True)
class AdaptedModel:
    """An adapted model as stored. ``status`` is that of the task whose state answers; result fields are None until it
    succeeded, and so are checkpoint and learner where a worker chooses them. ``predictions``, of many megabytes maybe,
    are None in lists. ``observed``: {n, correct, squared_error} of the answers of its checkpoint that were given
    feedback on.
    """

    id: str
    tenant: str
    checkpoint: str | None
    checkpoint_name: str | None
    alias: str | None
    learner: str | None
    options: dict[str, Any]
    task: str
    classes: tuple[Label, ...]
    k_shot: tuple[int, ...]
    targets: tuple[CountedTarget, ...]
    n_support: int
    input_shape: tuple[int, ...]
    parent: str | None
    metadata: dict[str, Any]
    pinned: bool
    created_at: datetime
    expires_at: datetime | None
    follow: bool
    revision: int
    task_id: str
    status: str
    attempt: int
    failure: Failure | None
    object_key: str | None
    object_sha256: str | None
    quality: dict[str, Any] | None
    qualities: list[dict[str, Any] | None] | None
    selection: dict[str, Any] | None
    predictions: list[dict[str, Any]] | None
    timings: dict[str, Any] | None
    observed: dict[str, Any] | None
    expired: bool

    @property
    def made_with(self) -> CheckpointRef:
        """Its checkpoint, once it is made."""
        assert self.checkpoint is not None and self.checkpoint_name is not None
        return CheckpointRef(id=self.checkpoint, name=self.checkpoint_name, alias=self.alias)


async def insert_adapted_model(connection: AsyncConnection, model: NewAdaptedModel) -> bool:
    """Insert; False where the tenant already has a model with this fingerprint (nothing is written then).

    Its checkpoint stays as long as it lives. Raises Expired where that was deleted since it was resolved.
    """
    if model.checkpoint is not None:
        await hold_checkpoint(connection, model.checkpoint)
    inserted = await connection.execute(
        insert(adapted_models)
        .values(
            id=model.id,
            tenant_id=model.tenant,
            checkpoint_id=model.checkpoint,
            checkpoint_name=model.checkpoint_name,
            alias=model.alias,
            learner=model.learner,
            options=model.options,
            task=model.task,
            classes=list(model.classes),
            k_shot=list(model.k_shot),
            targets=[target.model_dump(mode="json") for target in model.targets],
            n_support=model.n_support,
            input_shape=list(model.input_shape),
            fingerprint=model.fingerprint,
            support_sha256=model.support,
            content_sha256=model.content,
            task_id=model.task_id,
            follow=model.follow,
            parent_id=model.parent,
            metadata=model.metadata,
            expires_at=None if model.ttl_s is None else seconds_from_now(model.ttl_s),
        )
        .on_conflict_do_nothing()
        .returning(adapted_models.c.id)
    )
    return inserted.scalar() is not None


async def find_same(
    connection: AsyncConnection, tenant: str, fingerprint: str, asked_sha256: bytes
) -> tuple[AdaptedModel, bool] | None:
    """The tenant's live model with this fingerprint, held until the transaction ends: nobody deletes it meanwhile.
    Beside it: whether it is not made yet and was asked for with this very payload and query (``asked_sha256``: of the
    two, one after the other).

    An expired model gives its fingerprint up to the next.
    """
    await connection.execute(
        update(adapted_models)
        .where(
            adapted_models.c.tenant_id == tenant,
            adapted_models.c.fingerprint == fingerprint,
            adapted_models.c.expires_at < func.now(),
            ~adapted_models.c.pinned,
        )
        .values(fingerprint=None)
    )
    sent = tasks.c.payload.op("||")(func.coalesce(tasks.c.query, b""))
    asked = case((_OPEN, func.sha256(sent) == asked_sha256), else_=False).label("asked")
    wanted = _whole(tenant).add_columns(asked).where(adapted_models.c.fingerprint == fingerprint)
    row = (await connection.execute(wanted.with_for_update(of=adapted_models, key_share=True))).one_or_none()
    return None if row is None else (_model(row), bool(row.asked))


async def extend(connection: AsyncConnection, model: AdaptedModel, ttl_s: float) -> AdaptedModel:
    """Let the model live at least ``ttl_s`` seconds from now; never shorter than before."""
    await connection.execute(
        update(adapted_models)
        .where(adapted_models.c.id == model.id, adapted_models.c.expires_at < seconds_from_now(ttl_s))
        .values(expires_at=seconds_from_now(ttl_s))
    )
    return await get_adapted_model(connection, model.tenant, model.id)


async def get_adapted_model(connection: AsyncConnection, tenant: str, id: str) -> AdaptedModel:
    """One adapted model. NotFound: unknown, deleted or another tenant's. Expired: past its time."""
    row = (await connection.execute(_whole(tenant).where(adapted_models.c.id == id))).one_or_none()
    if row is None:
        raise NotFound(UNKNOWN)
    model = _model(row)
    if model.expired:
        raise Expired(EXPIRED)
    return model


async def list_adapted_models(
    connection: AsyncConnection, tenant: str, *, limit: int, after: str | None
) -> list[AdaptedModel]:
    """Newest first, ``after`` exclusive; without expired ones, and without predictions."""
    query = _whole(tenant, with_predictions=False).where(
        (adapted_models.c.expires_at > func.now()) | adapted_models.c.expires_at.is_(None) | adapted_models.c.pinned
    )
    if after is not None:
        query = query.where(adapted_models.c.id < after)
    rows = await connection.execute(query.order_by(adapted_models.c.id.desc()).limit(limit))
    return [_model(row) for row in rows]


async def change_adapted_model(
    connection: AsyncConnection,
    tenant: str,
    id: str,
    *,
    ttl_s: float | None = None,
    pinned: bool | None = None,
    metadata: dict[str, Any] | None = None,
    follow: bool | None = None,
) -> AdaptedModel:
    """Change what may change: the time to live (counted from now), the pin, the metadata, whether it follows its alias.

    Raises Invalid where the model would expire by losing its pin, or has no alias to follow.
    """
    before = await get_adapted_model(connection, tenant, id)
    if follow and (before.alias is None or before.selection is not None or before.checkpoint is None):
        raise Invalid(NOTHING_TO_FOLLOW, param="follow")
    values: dict[str, Any] = {}
    if ttl_s is not None:
        values["expires_at"] = seconds_from_now(ttl_s)
    if pinned is not None:
        values["pinned"] = pinned
    if metadata is not None:
        values["metadata"] = metadata
    if follow is not None:
        # what it declined once it may be asked again
        values |= {"follow": follow, "target_checkpoint_id": null()}
    if values:
        await connection.execute(update(adapted_models).where(adapted_models.c.id == id).values(**values))
    try:
        return await get_adapted_model(connection, tenant, id)
    except Expired:
        raise Invalid("its time passed while it was pinned; send ttl_seconds too", param="ttl_seconds") from None


def _whole(tenant: str, *, with_predictions: bool = True) -> Select[Any]:
    """Every query on adapted models starts here, so that none can forget the tenant or the deleted ones."""
    return (
        select(
            adapted_models,
            tasks.c.status,
            tasks.c.attempt,
            tasks.c.failure,
            results.c.object_key,
            results.c.object_sha256,
            results.c.quality,
            results.c.qualities,
            results.c.selection,
            results.c.predictions if with_predictions else null().label("predictions"),
            results.c.timings,
            ((adapted_models.c.expires_at < func.now()) & ~adapted_models.c.pinned).label("expired"),
        )
        .join(tasks, tasks.c.id == adapted_models.c.task_id)
        .outerjoin(results, results.c.task_id == tasks.c.id)
        .where(adapted_models.c.tenant_id == tenant, adapted_models.c.deleted_at.is_(None))
    )


def _model(row: Row[Any]) -> AdaptedModel:
    return AdaptedModel(
        id=row.id,
        tenant=row.tenant_id,
        checkpoint=row.checkpoint_id,
        checkpoint_name=row.checkpoint_name,
        alias=row.alias,
        learner=row.learner,
        options=row.options,
        task=row.task,
        classes=tuple(row.classes),
        k_shot=tuple(row.k_shot),
        targets=tuple(CountedTarget.model_validate(target, strict=False) for target in row.targets),
        n_support=row.n_support,
        input_shape=tuple(row.input_shape),
        parent=row.parent_id,
        metadata=row.metadata,
        pinned=row.pinned,
        created_at=row.created_at,
        expires_at=row.expires_at,
        follow=row.follow,
        revision=row.revision,
        task_id=row.task_id,
        status=row.status,
        attempt=row.attempt,
        failure=None if row.failure is None else Failure.model_validate(row.failure),
        object_key=row.object_key,
        object_sha256=row.object_sha256,
        quality=row.quality,
        qualities=row.qualities,
        selection=row.selection,
        predictions=row.predictions,
        timings=row.timings,
        observed=row.observed,
        expired=bool(row.expired),
    )
