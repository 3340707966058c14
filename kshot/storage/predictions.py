"""Recorded predictions: one multi-row insert per batch, before the answers go out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.tasks import Timings
from kshot.storage.tables import predictions


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


async def insert_predictions(connection: AsyncConnection, batch: Sequence[NewPrediction]) -> None:
    """Record a batch. A prediction that was redelivered and already recorded is left as it is."""
    if not batch:
        return
    rows = [
        {
            "id": item.id,
            "tenant_id": item.tenant,
            "adapted_model_id": item.adapted_model,
            "checkpoint_id": item.checkpoint,
            "n_query": len(item.predictions),
            "predictions": item.predictions,
            "inputs": item.inputs,
            "timings": item.timings.model_dump(),
        }
        for item in batch
    ]
    await connection.execute(insert(predictions).values(rows).on_conflict_do_nothing())
