"""Which objects rows need: what a backup has to hold, and what must be in the store."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.jobs import OPEN_STATUSES

_READ = """
SELECT r.object_key AS key, r.object_sha256 AS sha256
FROM results r JOIN tasks t ON t.id = r.task_id JOIN adapted_models m ON m.id = t.adapted_model_id
WHERE r.object_key IS NOT NULL AND m.deleted_at IS NULL AND m.state_erased_at IS NULL
      AND (m.pinned OR m.expires_at IS NULL OR m.expires_at > now())
UNION ALL
SELECT object_key, manifest ->> 'weights_sha256' FROM checkpoints WHERE deleted_at IS NULL
UNION ALL
SELECT object_key, manifest ->> 'sha256' FROM datasets WHERE deleted_at IS NULL AND object_key IS NOT NULL
UNION ALL
SELECT state_key, NULL FROM training_jobs WHERE state_key IS NOT NULL AND status = ANY (:open)
"""


@dataclass(frozen=True)
class Referenced:
    """An object that a row names. ``sha256``: of its content; None where no row says it (states of running jobs)."""

    key: str
    sha256: str | None


async def referenced_objects(connection: AsyncConnection) -> list[Referenced]:
    """Every object that something alive needs, as of the connection's snapshot."""
    rows = await connection.execute(text(_READ), {"open": list(OPEN_STATUSES)})
    return [Referenced(row.key, row.sha256) for row in rows]
