"""Recorded predictions: one insert per batch, before the answers go out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.tasks import Timings
from kshot.storage.database import fetch


@dataclass(frozen=True)
class NewPrediction:
    """What is kept of one predict call. ``inputs`` only where the caller said ``store: true``."""

    id: str
    tenant: str
    adapted_model: str | None
    checkpoint: str
    predictions: list[dict[str, Any]]
    inputs: bytes | None
    timings: Timings


@dataclass(frozen=True)
class Recorded:
    """What is recorded of a call already."""

    predictions: list[dict[str, Any]]
    timings: Timings


async def insert_predictions(connection: AsyncConnection, batch: Sequence[NewPrediction]) -> dict[str, Recorded]:
    """Record a batch; returns what is recorded already, by id, of calls that were delivered again. That stands, and may
    have been answered: another worker's answer differs in its last digits, because its batch was another.

    One statement, which commits by itself where no transaction is open, and does not wait for the disk: a crash of
    Postgres itself may lose the records of its last fraction of a second. Predictions can be asked again.
    """
    if not batch:
        return {}
    columns = zip(*map(_row, batch), strict=True)
    fresh = {row[0] for row in await fetch(connection, _INSERT, *map(list, columns))}
    again = [item.id for item in batch if item.id not in fresh]
    found = await fetch(connection, _READ, again) if again else []
    return {row[0]: Recorded(row[1], Timings.model_validate(row[2], strict=False)) for row in found}


def _row(item: NewPrediction) -> tuple[Any, ...]:
    return (
        item.id,
        item.tenant,
        item.adapted_model,
        item.checkpoint,
        len(item.predictions),
        orjson.dumps(item.predictions).decode(),
        item.inputs,
        orjson.dumps(item.timings.model_dump()).decode(),
    )


_INSERT = """
WITH hasty AS (
    SELECT set_config('synchronous_commit', 'off', true)
)
INSERT INTO predictions (
    id, tenant_id, adapted_model_id, checkpoint_id, n_query, predictions, inputs, timings
) SELECT id, tenant, model, checkpoint, n_query, predictions::jsonb, inputs, timings::jsonb
FROM hasty, unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::bytea[], $8::text[]
) AS given (id, tenant, model, checkpoint, n_query, predictions, inputs, timings)
ON CONFLICT DO NOTHING
RETURNING id
"""

_READ = "SELECT id, predictions, timings FROM predictions WHERE id = ANY ($1) AND predictions <> '[]'::jsonb"
"""Without those that were erased since, with their model."""
