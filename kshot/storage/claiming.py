"""Claiming: the right to work on open tasks, each given to one worker at a time."""

from functools import cache
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.tasks import READABLE_PAYLOADS
from kshot.storage.database import fetch
from kshot.storage.tasks import Claim

CLAIM_BYTES = 256 * 1024 * 1024
"""Payloads of one claim, together: they are all in memory at once, and decoded beside that."""


async def claim(
    connection: AsyncConnection,
    worker: str,
    lease_s: float,
    limit: int,
    *,
    last_chance: bool = False,
    background: bool | None = None,
    max_bytes: int = CLAIM_BYTES,
) -> list[Claim]:
    """Claim up to ``limit`` open tasks, only replays or none of them as ``background`` says. Callers' tasks come first,
    and of these a tenant's first before another's second, what runs already counting too, and for more where supports
    are large (one more each 64 KiB): nobody waits behind a neighbour's thousand, or behind his few that are as much
    work. Fewer where their payloads are larger than ``max_bytes`` together, but at least one.

    Tasks whose payload is of a version that is not read here are left to a worker that reads it. Those with one attempt
    left are claimed with ``last_chance`` alone, so that a worker can run each by itself: among them is the one that
    ends its workers, and it must not spend its neighbours' attempts too.

    One statement, which commits by itself where no transaction is open, and does not wait for the disk: a Postgres
    that crashes may forget a claim. Before anything outside of it relies on one, the lease is renewed, which waits.
    """
    rows = await fetch(connection, _statement(last_chance, background), worker, lease_s, limit, max_bytes)
    return [Claim(*fields) for _, *fields in sorted(rows, key=_place)]


def _place(row: Any) -> int:
    place: int = row[0]
    return place


_OPEN = "({0}.status = 'queued' OR {0}.status = 'running' AND {0}.lease_until < now())"
_FIRST = "SELECT {0} FROM tasks AS first WHERE first.adapted_model_id = {1}.adapted_model_id AND NOT first.background"
"""The task that made a model alone holds the support set, which replays of it read; nothing where it was erased."""
_READABLE = f"t.payload_version IN ({', '.join(map(str, sorted(READABLE_PAYLOADS)))})"

_CLAIM = """
WITH hasty AS (
    SELECT set_config('synchronous_commit', 'off', true)
), lined_up AS (
    SELECT id, coalesce(sum(1 + coalesce(octet_length(payload), 0) / 65536) OVER (
        PARTITION BY background, tenant_id ORDER BY {open}, created_at
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS turn
    FROM tasks WHERE status IN ('queued', 'running')
), picked AS (
    SELECT t.id, t.background, turn, t.created_at, coalesce(octet_length(t.query), 0)
        + coalesce(CASE WHEN t.background THEN ({bytes_of_first}) ELSE octet_length(t.payload) END, 0) AS bytes
    FROM lined_up JOIN tasks AS t USING (id) WHERE {wanted}
    ORDER BY t.background, turn, t.created_at LIMIT $3 FOR UPDATE OF t SKIP LOCKED
), counted AS (
    SELECT id, sum(bytes) OVER in_order AS bytes, row_number() OVER in_order AS place
    FROM picked WINDOW in_order AS (ORDER BY background, turn, created_at, id)
)
UPDATE tasks SET
    status = 'running', attempt = tasks.attempt + 1, worker = $1,
    lease_until = now() + make_interval(secs => $2), started_at = clock_timestamp()
FROM counted, hasty
WHERE tasks.id = counted.id AND (counted.bytes <= $4 OR counted.place = 1)
RETURNING
    counted.place, tasks.id, tasks.attempt, tasks.worker, tasks.tenant_id, tasks.adapted_model_id,
    tasks.checkpoint_id, tasks.learner,
    coalesce(CASE WHEN tasks.background THEN ({first_payload}) ELSE tasks.payload END, ''),
    tasks.reply_to, tasks.request_id, (extract(epoch FROM tasks.started_at - tasks.created_at) * 1000)::float8,
    tasks.background, tasks.query, tasks.trace
"""
"""After the place the fields of a `Claim`, in their order."""


@cache
def _statement(last_chance: bool, background: bool | None) -> str:
    wanted = [_OPEN.format("t"), "t.max_attempts - t.attempt " + ("= 1" if last_chance else "> 1"), _READABLE]
    if background is not None:
        wanted.append("t.background" if background else "NOT t.background")
    return _CLAIM.format(
        open=_OPEN.format("tasks"),
        bytes_of_first=_FIRST.format("octet_length(first.payload)", "t"),
        wanted=" AND ".join(wanted),
        first_payload=_FIRST.format("first.payload", "tasks"),
    )
