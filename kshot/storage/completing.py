"""The ordinary end of adaptations: those of a whole batch in one statement."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.model import Model
from kshot.storage.database import fetch
from kshot.storage.results import NewResult
from kshot.storage.tasks import Claim


def is_ordinary(claim: Claim, result: NewResult) -> bool:
    """Whether nothing but the task and its result is to be written: no model to switch over, no checkpoint to set."""
    return not claim.background and result.chosen is None and result.payload is None


async def complete_all(connection: AsyncConnection, done: Sequence[tuple[Claim, NewResult]]) -> set[str]:
    """Mark tasks succeeded and insert the one result row of each; the ids of those whose lease was still ours. Of the
    others nothing is written. Each must be ordinary.

    One statement, which commits by itself where no transaction is open. An error means that none was written, unless
    Postgres went away before it could say so.
    """
    columns = zip(*(_row(claim, result) for claim, result in done), strict=True)
    rows = await fetch(connection, _COMPLETE, *map(list, columns))
    return {row[0] for row in rows}


def _row(claim: Claim, result: NewResult) -> tuple[Any, ...]:
    qualities = [_plain(quality) for quality in result.qualities]
    return (
        claim.task_id,
        claim.attempt,
        claim.worker,
        result.object_key,
        result.object_sha256,
        result.state,
        _json(_plain(result.quality)),
        _json(qualities or None),
        _json(result.predictions),
        _json(_plain(result.timings)),
    )


def _plain(model: Model | None) -> dict[str, Any] | None:
    return None if model is None else model.model_dump()


def _json(value: object) -> str | None:
    """As a parameter of the driver's; None is SQL's NULL."""
    return None if value is None else orjson.dumps(value).decode()


_COMPLETE = """
WITH given AS (
    SELECT * FROM unnest(
        $1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[],
        $10::text[]
    ) AS given (id, attempt, worker, object_key, object_sha256, state, quality, qualities, predictions, timings)
), ended AS (
    UPDATE tasks SET
        status = 'succeeded', failure = NULL, query = NULL, lease_until = NULL, finished_at = clock_timestamp()
    FROM given
    WHERE tasks.id = given.id AND tasks.attempt = given.attempt AND tasks.worker = given.worker
        AND tasks.status = 'running'
    RETURNING tasks.id
)
INSERT INTO results (task_id, object_key, object_sha256, state, quality, qualities, predictions, timings)
SELECT id, object_key, object_sha256, state, quality::jsonb, qualities::jsonb, predictions::jsonb, timings::jsonb
FROM given JOIN ended USING (id)
RETURNING task_id
"""
