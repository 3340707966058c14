"""Orders recorded in groups: one statement, one round trip and one flush of the log for all that came at a time."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.tasks import PAYLOAD_VERSION
from kshot.storage.adapted_models import AdaptedModel, NewAdaptedModel
from kshot.storage.database import fetch
from kshot.storage.tasks import NewTask


@dataclass(frozen=True)
class NewOrder:
    """An adapted model to make, the task that makes it, and the API key that asked for it."""

    model: NewAdaptedModel
    task: NewTask
    key: str | None

    @property
    def n_bytes(self) -> int:
        """What its support and its query take."""
        return len(self.task.payload) + len(self.task.query or b"")


@dataclass(frozen=True)
class Room:
    """How many tasks may be open: of everyone, of one tenant."""

    everyone: int
    tenant: int


async def insert_orders(connection: AsyncConnection, orders: Sequence[NewOrder], room: Room) -> dict[str, AdaptedModel]:
    """Record, each whole or not at all, the orders that nothing stands against; the models made, by id.

    Left out are those whose fingerprint is taken (in the table, or by another of ``orders``), those for which there is
    no room, and those whose checkpoint was deleted: why, a transaction of their own finds out. ``connection`` commits
    by itself: the statement is the transaction. An error means that none is recorded, unless Postgres went away before
    it could say so; whoever sends the same again finds the twin by its fingerprint.
    """
    # In the order of the unique index, so that two groups that wait for each other's fingerprints cannot both wait.
    ordered = sorted(orders, key=lambda order: (order.model.tenant, order.model.fingerprint or ""))
    columns = zip(*(_row(order) for order in ordered), strict=True)
    supports: Any = [order.task.payload for order in ordered]
    statement = _INSERT.format(support="($29::bytea[])[place]")
    if len(ordered) == 1:
        (supports,) = supports
        statement = _INSERT.format(support="$29::bytea")
    rows = await fetch(connection, statement, room.everyone, room.tenant, *columns, supports, PAYLOAD_VERSION)
    models = {order.model.id: order.model for order in orders}
    return {row["id"]: _queued(models[row["id"]], row) for row in rows}


def _row(order: NewOrder) -> tuple[Any, ...]:
    """What `_INSERT` takes as $3 to $28."""
    model, task = order.model, order.task
    return (
        model.id,
        model.tenant,
        model.checkpoint,
        model.checkpoint_name,
        model.alias,
        model.learner,
        json.dumps(model.options),
        model.task,
        json.dumps(list(model.classes)),
        json.dumps(list(model.k_shot)),
        json.dumps([target.model_dump(mode="json") for target in model.targets]),
        model.n_support,
        json.dumps(list(model.input_shape)),
        model.fingerprint,
        model.support,
        model.content,
        model.task_id,
        model.follow,
        model.parent,
        json.dumps(model.metadata),
        model.ttl_s,
        task.reply_to,
        task.request_id,
        order.key,
        task.trace,
        task.query,
    )


_INSERT = """
WITH given AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY place) AS nth
    FROM unnest(
        $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::text[], $13::text[], $14::int[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::text[], $20::bool[], $21::text[], $22::text[], $23::float8[], $24::text[], $25::text[], $26::text[],
        $27::text[]
    ) WITH ORDINALITY AS given (
        id, tenant_id, checkpoint_id, checkpoint_name, alias, learner, options, task, classes, k_shot, targets,
        n_support, input_shape, fingerprint, support_sha256, content_sha256, task_id, follow, parent_id,
        metadata, ttl_s, reply_to, request_id, key_id, trace, place
    )
), waiting AS (
    SELECT tenant_id, count(*) AS n FROM tasks
    WHERE status IN ('queued', 'running') AND NOT background GROUP BY tenant_id
), held AS (
    SELECT id FROM checkpoints
    WHERE id IN (SELECT checkpoint_id FROM given) AND deleted_at IS NULL FOR KEY SHARE
), fitting AS (
    SELECT * FROM given
    WHERE (checkpoint_id IS NULL OR checkpoint_id IN (SELECT id FROM held))
        AND place + (SELECT coalesce(sum(n), 0) FROM waiting) <= $1
        AND nth + coalesce((SELECT n FROM waiting WHERE waiting.tenant_id = given.tenant_id), 0) <= $2
), models AS (
    INSERT INTO adapted_models (
        id, tenant_id, checkpoint_id, checkpoint_name, alias, learner, options, task, classes, k_shot, targets,
        n_support, input_shape, fingerprint, support_sha256, content_sha256, task_id, follow, parent_id, metadata,
        expires_at
    ) SELECT
        id, tenant_id, checkpoint_id, checkpoint_name, alias, learner, options::jsonb, task, classes::jsonb,
        k_shot::jsonb, targets::jsonb, n_support, input_shape::jsonb, fingerprint, support_sha256, content_sha256,
        task_id, follow, parent_id, metadata::jsonb, now() + make_interval(secs => ttl_s)
    FROM fitting ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id, created_at, expires_at, metadata
), made AS (
    INSERT INTO tasks (
        id, tenant_id, adapted_model_id, checkpoint_id, learner, payload, query, reply_to, request_id, trace,
        payload_version
    ) SELECT task_id, tenant_id, id, checkpoint_id, learner, {support}, ($28::bytea[])[place],
        reply_to, request_id, trace, $30
    FROM given JOIN models USING (id)
), noted AS (
    INSERT INTO audit_log (tenant_id, key_id, action, object_id, request_id)
    SELECT tenant_id, key_id, 'adapted_model.create', id, request_id FROM given JOIN models USING (id)
)
SELECT id, created_at, expires_at, metadata FROM models
"""
"""$1, $2: the room for everyone and for one tenant. $28, $29: queries and supports, which are taken from where they
are: copying them through every step would cost more than all the rest. A single support is no array, which would be a
copy more of what may be all photographs. $30: the version both are written in."""


def _queued(model: NewAdaptedModel, row: Any) -> AdaptedModel:
    """A model just recorded, as reading it would tell."""
    return AdaptedModel(
        id=model.id,
        tenant=model.tenant,
        checkpoint=model.checkpoint,
        checkpoint_name=model.checkpoint_name,
        alias=model.alias,
        learner=model.learner,
        options=model.options,
        task=model.task,
        classes=tuple(model.classes),
        k_shot=tuple(model.k_shot),
        targets=tuple(model.targets),
        n_support=model.n_support,
        input_shape=tuple(model.input_shape),
        parent=model.parent,
        metadata=row["metadata"],
        pinned=False,
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        follow=model.follow,
        revision=1,
        task_id=model.task_id,
        status="queued",
        attempt=0,
        failure=None,
        object_key=None,
        object_sha256=None,
        quality=None,
        qualities=None,
        selection=None,
        predictions=None,
        timings=None,
        observed=None,
        expired=False,
    )
