"""The ordinary end of a batch: what is written of each task, and of which nothing is."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.selection import CheckpointRef, Selection
from kshot.contracts.tasks import Quality, Timings
from kshot.storage.completing import complete_all, is_ordinary
from kshot.storage.results import Chosen, NewResult
from kshot.storage.tasks import Claim, heartbeat
from tests.kshot.storage.test_task_life import RESULT, TIMINGS, accept, take

CHOSEN = Chosen(
    CheckpointRef(id="ckpt", name="plain"), "ridge", (3,), Selection(considered=(), reason="only one", reliable=False)
)
QUALITY = Quality(method="leave_one_out", accuracy=0.5, n=2, reliable=False)


async def claimed(database: AsyncEngine, checkpoint: str, *, query: bytes | None = None) -> Claim:
    task, _ = await accept(database, checkpoint)
    async with database.begin() as connection:
        values = {"id": task, "query": query, "failure": '{"code": "internal", "message": "before"}'}
        await connection.execute(text("UPDATE tasks SET query = :query, failure = :failure WHERE id = :id"), values)
    (claim,) = await take(database, "w", task)
    return claim


async def ended(database: AsyncEngine, *done: tuple[Claim, NewResult]) -> set[str]:
    async with database.connect() as connection:
        return await complete_all(connection, done)


async def test_all_that_a_result_holds_is_written(database: AsyncEngine, checkpoint: str):
    claim, plain = [await claimed(database, checkpoint, query=b"asked") for _ in range(2)]
    full = NewResult(
        "states/x", "sha", QUALITY, [{"label": "a"}], Timings(queue_ms=1, compute_ms=2, batch_size=3), b"state",
        qualities=(QUALITY, None),
    )  # fmt: skip
    least = NewResult(None, "sha", None, None, TIMINGS)
    assert await ended(database, (claim, full), (plain, least)) == {claim.task_id, plain.task_id}
    rows = (
        "SELECT status, failure, query, lease_until, finished_at BETWEEN started_at AND clock_timestamp() AS now, "
        "object_key, object_sha256, state, quality, qualities, predictions, timings "
        "FROM tasks JOIN results ON task_id = id WHERE id = :id"
    )
    async with database.connect() as connection:
        found, bare = [
            dict((await connection.execute(text(rows), {"id": one.task_id})).mappings().one()) for one in (claim, plain)
        ]
    over = {"status": "succeeded", "failure": None, "query": None, "lease_until": None, "now": True}
    quality = QUALITY.model_dump()
    assert found == over | {
        "object_key": "states/x", "object_sha256": "sha", "state": b"state", "quality": quality,
        "qualities": [quality, None], "predictions": [{"label": "a"}],
        "timings": {"queue_ms": 1, "compute_ms": 2, "batch_size": 3},
    }  # fmt: skip
    nothing = dict.fromkeys(("object_key", "state", "quality", "qualities", "predictions"))
    assert bare == over | nothing | {"object_sha256": "sha", "timings": TIMINGS.model_dump()}


async def test_of_what_is_no_longer_ours_nothing_is_written(database: AsyncEngine, checkpoint: str):
    mine, zombie, other, over = [await claimed(database, checkpoint) for _ in range(4)]
    async with database.begin() as connection:
        await heartbeat(connection, [zombie], -1)
    await take(database, "w", zombie.task_id)
    assert await ended(database, (over, RESULT)) == {over.task_id}
    claims = [mine, zombie, replace(other, worker="another"), over]
    assert await ended(database, *((claim, RESULT) for claim in claims)) == {mine.task_id}
    async with database.connect() as connection:
        statement = text("SELECT status, (SELECT count(*) FROM results WHERE task_id = id) FROM tasks WHERE id = :id")
        rows = [tuple((await connection.execute(statement, {"id": one.task_id})).one()) for one in claims]
    assert rows == [("succeeded", 1), ("running", 0), ("running", 0), ("succeeded", 1)]


@pytest.mark.parametrize(
    ("background", "chosen", "payload", "ordinary"),
    [
        (False, None, None, True),
        (True, None, None, False),
        (False, CHOSEN, None, False),
        (False, None, b"kept", False),
        (True, CHOSEN, b"kept", False),
    ],
)
def test_what_more_is_to_be_written_of_is_not_ordinary(
    background: bool, chosen: Chosen | None, payload: bytes | None, ordinary: bool
):
    claim = Claim("task", 1, "w", "ten", "am", "ckpt", "ridge", b"", None, None, 0.0, background)
    assert is_ordinary(claim, replace(RESULT, chosen=chosen, payload=payload)) is ordinary
