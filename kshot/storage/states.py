"""Stored states of adapted models, as many as are wanted in one round trip."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Conflict, Expired, KshotError, NotFound
from kshot.contracts.tasks import CountedTarget, Label
from kshot.storage.adapted_models import EXPIRED, UNKNOWN
from kshot.storage.database import fetch

_READ = """
SELECT m.id, t.id, t.checkpoint_id, t.learner, m.classes::text, m.targets::text, m.input_shape::text,
       coalesce(m.expires_at < now() AND NOT m.pinned, false), r.object_key, r.object_sha256, r.state
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (tenant, model, task, place)
LEFT JOIN LATERAL (
    SELECT * FROM adapted_models
    WHERE id = wanted.model AND tenant_id = wanted.tenant AND deleted_at IS NULL OFFSET 0
) m ON true
LEFT JOIN LATERAL (
    SELECT id, checkpoint_id, learner FROM tasks
    WHERE id = coalesce(wanted.task, m.task_id) AND adapted_model_id = m.id OFFSET 0
) t ON true
LEFT JOIN LATERAL (SELECT object_key, object_sha256, state FROM results WHERE task_id = t.id OFFSET 0) r ON true
ORDER BY wanted.place
"""
"""`OFFSET 0`: each row is found by its own index. As plain joins, a plan made once for all parameters reads every model
of a tenant."""


@dataclass(frozen=True)
class Wanted:
    """The state of a tenant's adapted model: the one that ``task`` made, or with None the one that answers now."""

    tenant: str
    model: str
    task: str | None = None


@dataclass(frozen=True)
class StoredState:
    """The state that a task made (``state`` itself, or what lies under ``object_key``), with the checkpoint and the
    learner that made it, and what its model is."""

    model: str
    task: str
    checkpoint: str
    learner: str
    classes: tuple[Label, ...]
    targets: tuple[CountedTarget, ...]
    input_shape: tuple[int, ...]
    object_key: str | None
    object_sha256: str
    state: bytes | None


async def read_states(database: AsyncEngine, wanted: Sequence[Wanted]) -> list[StoredState | KshotError]:
    """What is stored of each, in their order, or why there is nothing: NotFound (another tenant's too), Expired,
    Conflict where the task made no state (yet), or it is forgotten."""
    columns = zip(*((one.tenant, one.model, one.task) for one in wanted), strict=True)
    async with database.connect() as connection:
        rows = await fetch(connection, _READ, *map(list, columns))
    return [_stored(*row) for row in rows]


def _stored(
    model: str | None,
    task: str | None,
    checkpoint: str,
    learner: str,
    classes: str,
    targets: str,
    shape: str,
    expired: bool,
    object_key: str | None,
    digest: str | None,
    state: bytes | None,
) -> StoredState | KshotError:
    if model is None:
        return NotFound(UNKNOWN)
    if expired:
        return Expired(EXPIRED)
    if task is None or digest is None:
        return Conflict("this adapted model is not ready; ask GET /v1/adapted-models/{id} for its status")
    return StoredState(
        model=model,
        task=task,
        checkpoint=checkpoint,
        learner=learner,
        classes=tuple(json.loads(classes)),
        targets=tuple(CountedTarget.model_validate(target, strict=False) for target in json.loads(targets)),
        input_shape=tuple(json.loads(shape)),
        object_key=object_key,
        object_sha256=digest,
        state=state,
    )
