"""Adapted models: each that was told of is there once, whole, its tenant's own, made from what that tenant sent."""

from typing import Any

import asyncpg
import numpy as np

from benchmarks.faults.audit.findings import Audit
from benchmarks.faults.audit.told import Index
from benchmarks.faults.orders import Order
from kshot.contracts.tasks import Payload

_VECTORS = ("near", "plain", "matching", "numbers", "steps", "slow", "waves")

_MODELS = """
SELECT m.id, tenants.name AS tenant, m.metadata->>'order' AS number, m.metadata->>'owner' AS owner,
    m.deleted_at IS NOT NULL AS deleted, t.id AS task, t.checkpoint_id AS checkpoint, t.status,
    t.failure->>'code' AS code, t.payload,
    t.tenant_id = m.tenant_id AS task_is_its_own, r.task_id IS NOT NULL AS has_result,
    (SELECT count(*) FROM audit_log WHERE object_id = m.id AND action = 'adapted_model.create') AS noted
FROM adapted_models m JOIN tenants ON tenants.id = m.tenant_id
JOIN tasks t ON t.adapted_model_id = m.id AND NOT t.background
LEFT JOIN results r ON r.task_id = m.task_id
"""
"""``has_result``: of the task that answers now: of a model that follows an alias, the last three states are kept."""
_OPEN_REPLAYS = "SELECT id, status FROM tasks WHERE background AND status IN ('queued', 'running')"


async def audit_models(connection: asyncpg.Connection, index: Index, audit: Audit) -> None:
    """Compare each model's row, task and result with what was told of it."""
    found: set[str] = set()
    keyed = {str(order["number"]) for order, _ in index.orders.values() if order["key"] is not None}
    made: dict[tuple[str, str | None], list[str]] = {}
    async with connection.transaction():
        async for row in connection.cursor(_MODELS, prefetch=200):
            found.add(row["id"])
            _check_model(row, index, audit)
            if row["number"] is not None and row["status"] not in ("failed", "cancelled"):
                # without a key it is another order once the alias has moved: an answer may get lost before that
                checkpoint = None if row["number"] in keyed else row["checkpoint"]
                made.setdefault((row["number"], checkpoint), []).append(row["id"])
    audit.checked["adapted models"] = len(index.models)
    audit.noted["models that nobody was told of (their answers were lost on the way)"] = len(found - set(index.models))
    for model_id in set(index.models) - found:
        audit.find("lost", f"{model_id} was accepted from {index.models[model_id]}, and there is no such model")
    for (number, _), models in made.items():
        if len(models) > 1:
            audit.find("doubled", f"order {number} made {len(models)} models: {', '.join(sorted(models))}")
    for order, ids in index.orders.values():
        if len(ids & set(index.bodies)) > 1:  # one that fails through no fault of its caller frees its key
            audit.find(
                "doubled", f"order {order['number']} of {order['tenant']} was answered with {', '.join(sorted(ids))}"
            )
    for row in await connection.fetch(_OPEN_REPLAYS):
        audit.find("lost", f"the replay {row['id']} is still {row['status']}")


def _check_model(row: asyncpg.Record, index: Index, audit: Audit) -> None:
    model_id, tenant = row["id"], index.models.get(row["id"])
    if tenant not in (None, row["tenant"]) or row["owner"] not in (None, row["tenant"]) or not row["task_is_its_own"]:
        audit.find(
            "mixed", f"{model_id} is of {row['tenant']}, was told to {tenant}, and its order came from {row['owner']}"
        )
    if row["noted"] != 1 and row["owner"] is not None:
        audit.find("doubled" if row["noted"] else "lost", f"{model_id} is {row['noted']} times in the audit log")
    _check_end(row, index, audit)
    if row["payload"] is not None and row["number"] is not None:
        _check_support(row, index, audit)


def _check_end(row: asyncpg.Record, index: Index, audit: Audit) -> None:
    """How its task ended, against what its caller knows."""
    model_id, status = row["id"], row["status"]
    said = f"{model_id} (task {row['task']}) of {row['tenant']}"
    if row["deleted"]:
        if model_id not in index.asked_to_delete:
            audit.find("lost", f"{said} is deleted, and its tenant never asked for that")
        if row["payload"] is not None:
            audit.find("left over", f"{said} is deleted, and its support set is still there")
        return
    if model_id in index.deleted:
        audit.find("contradicted", f"{said} was told to be deleted, and is there")
    if status in ("queued", "running"):
        audit.find("lost", f"{said} was accepted and is still {status}")
    elif status == "cancelled":
        audit.find("lost", f"{said} was cancelled, and nobody asked for that")
    elif status == "failed":
        audit.noted[f"adaptations that failed with a reason: {row['code']}"] += 1
        if row["code"] is None:
            audit.find("lost", f"{said} failed without a reason")
        if model_id in index.bodies:
            audit.find("contradicted", f"{said} was told to have succeeded, and has failed: {row['code']}")
    elif not row["has_result"]:
        audit.find("lost", f"{said} succeeded and has no result")


def _check_support(row: asyncpg.Record, index: Index, audit: Audit) -> None:
    """Whether it was made from the examples that its order brought."""
    known = index.orders.get(int(row["number"]))
    if known is None or known[0]["parent"] is not None or known[0]["form"] not in (*_VECTORS, "words"):
        return
    order = Order(**known[0])
    rows, labels = order.support()
    stored = Payload.decode(row["payload"]).support
    assert stored is not None
    audit.checked["stored support sets"] += 1
    if not _same(stored.inputs, rows) or (stored.classes and list(stored.classes) != list(dict.fromkeys(labels))):
        audit.find("mixed", f"{row['id']} of {row['tenant']} has other examples than its order {order.number} brought")


def _same(stored: Any, sent: list[Any]) -> bool:
    if isinstance(stored, np.ndarray):
        expected = np.array(sent, dtype=np.float32)
        return stored.shape == expected.shape and bool((stored == expected).all())
    return list(stored) == sent
