"""The life of a promotion: asked for, compared by a trainer, decided in the transaction that moves the alias.

Claimed by (attempt, worker) as tasks are: whatever a trainer writes later is conditional on that pair.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, Expired, NotFound, Poison, PreconditionFailed
from kshot.contracts.registry import Comparison
from kshot.contracts.tasks import Failure
from kshot.storage.access import audit
from kshot.storage.aliases import move_alias
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.tables import seconds_from_now
from kshot.storage.training_tables import promotions

OPEN = ("queued", "running")
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class NewPromotion:
    """``alias_version``: of the alias when it was asked for; it must still have that when all is decided."""

    id: str
    tenant: str
    name: str
    alias: str
    challenger: str
    incumbent: str
    alias_version: int
    dataset: str
    key: str | None
    request_id: str | None


@dataclass(frozen=True)
class Promotion(NewPromotion):
    """A promotion as stored. ``comparison``: once both were measured; ``failure``: why that was not to be."""

    status: str
    attempt: int
    worker: str | None
    comparison: Comparison | None
    failure: Failure | None
    created_at: datetime
    finished_at: datetime | None


async def insert_promotion(connection: AsyncConnection, new: NewPromotion) -> Promotion:
    """Queue a comparison. Both checkpoints stay until it is decided; hold the data set in the same transaction.

    Raises Conflict where another one is open for this alias, NotFound and Expired as `hold_checkpoint`.
    """
    for checkpoint in sorted({new.challenger, new.incumbent}):
        await hold_checkpoint(connection, checkpoint)
    inserted = await connection.execute(
        insert(promotions)
        .values(
            id=new.id,
            tenant_id=new.tenant,
            name=new.name,
            alias=new.alias,
            challenger_id=new.challenger,
            incumbent_id=new.incumbent,
            alias_version=new.alias_version,
            dataset_id=new.dataset,
            key_id=new.key,
            request_id=new.request_id,
        )
        .on_conflict_do_nothing()
        .returning(promotions)
    )
    row = inserted.one_or_none()
    if row is None:
        raise Conflict(f"another promotion to {new.name}@{new.alias} is being compared; wait for it", retry_after=1)
    return _promotion(row)


async def find_open(connection: AsyncConnection, name: str, alias: str) -> Promotion | None:
    """The open promotion to an alias; there is one at most."""
    query = select(promotions).where(
        promotions.c.name == name, promotions.c.alias == alias, promotions.c.status.in_(OPEN)
    )  # fmt: skip
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _promotion(row)


async def get_promotion(connection: AsyncConnection, id: str) -> Promotion:
    """One promotion by id. Raises NotFound."""
    row = (await connection.execute(select(promotions).where(promotions.c.id == id))).one_or_none()
    if row is None:
        raise NotFound("no promotion with this id")
    return _promotion(row)


async def list_promotions(
    connection: AsyncConnection, *, limit: int, after: str | None, name: str | None = None
) -> list[Promotion]:
    """Newest first, ``after`` exclusive; of checkpoints of this ``name``, where one is given."""
    query = select(promotions).order_by(promotions.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(promotions.c.id < after)
    if name is not None:
        query = query.where(promotions.c.name == name)
    return [_promotion(row) for row in await connection.execute(query)]


async def claim_promotion(connection: AsyncConnection, worker: str, lease_s: float) -> Promotion | None:
    """The oldest promotion that nobody is comparing, ours until the lease ends; None where there is none."""
    lost = and_(promotions.c.status == "running", promotions.c.lease_until < func.now())
    wanted = (
        select(promotions.c.id)
        .where(or_(promotions.c.status == "queued", lost), promotions.c.attempt < MAX_ATTEMPTS)
        .order_by(promotions.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = await connection.execute(
        update(promotions)
        .where(promotions.c.id == wanted)
        .values(
            status="running",
            attempt=promotions.c.attempt + 1,
            worker=worker,
            lease_until=seconds_from_now(lease_s),
        )
        .returning(promotions)
    )
    row = taken.one_or_none()
    return None if row is None else _promotion(row)


async def renew_promotion(connection: AsyncConnection, claim: Promotion, lease_s: float) -> bool:
    """Extend the lease. False where it was lost: stop."""
    renewed = await connection.execute(
        update(promotions).where(_held_by(claim)).values(lease_until=seconds_from_now(lease_s))
    )
    return renewed.rowcount == 1


async def release_promotion(connection: AsyncConnection, claim: Promotion) -> None:
    """Give it back, unspent: the trainer is asked to end."""
    await connection.execute(
        update(promotions)
        .where(_held_by(claim))
        .values(status="queued", attempt=promotions.c.attempt - 1, lease_until=None)
    )


async def retry_promotion(connection: AsyncConnection, claim: Promotion) -> None:
    """Let the next attempt begin at once: this one's process died."""
    await connection.execute(update(promotions).where(_held_by(claim)).values(lease_until=seconds_from_now(-1)))


async def decide_promotion(connection: AsyncConnection, claim: Promotion, comparison: Comparison) -> str | None:
    """Store the comparison and, unless the challenger is worse, move the alias. Returns the status it ends with.

    None: the lease was lost, and nothing was written. An alias that moved meanwhile stays: the comparison was with
    another checkpoint than the one it points at now.
    """
    query = select(promotions.c.id).where(_held_by(claim)).with_for_update()
    if await connection.scalar(query) is None:
        return None
    stored = comparison.model_dump(mode="json")
    if comparison.verdict == "worse":
        await _end(connection, claim, status="refused", comparison=stored)
        return "refused"
    try:
        await move_alias(
            connection, claim.name, claim.alias, claim.challenger, "promote",
            expected_version=claim.alias_version, promotion=claim.id, key=claim.key,
        )  # fmt: skip
    except (PreconditionFailed, Expired):
        failure = Failure(
            code=Conflict.code, message=f"{claim.name}@{claim.alias} moved while they were compared; ask again"
        )
        await _end(connection, claim, status="failed", comparison=stored, failure=failure.model_dump())
        return "failed"
    await _end(connection, claim, status="promoted", comparison=stored)
    await audit(
        connection,
        tenant=claim.tenant,
        key=claim.key,
        action="alias.promote",
        object_id=f"{claim.name}@{claim.alias}",
        request_id=claim.request_id,
    )
    return "promoted"


async def fail_promotion(connection: AsyncConnection, claim: Promotion, failure: Failure) -> bool:
    """End it without a comparison. False: the lease was lost, and nothing was written."""
    return await _end(connection, claim, status="failed", failure=failure.model_dump())


async def fail_spent_promotions(connection: AsyncConnection) -> list[str]:
    """Fail those whose last attempt lost its lease; returns their ids."""
    failure = Failure(code=Poison.code, message=f"the comparison ended {MAX_ATTEMPTS} times without a result")
    failed = await connection.execute(
        update(promotions)
        .where(
            promotions.c.status == "running",
            promotions.c.lease_until < func.now(),
            promotions.c.attempt >= MAX_ATTEMPTS,
        )
        .values(status="failed", failure=failure.model_dump(), finished_at=func.now(), lease_until=None)
        .returning(promotions.c.id)
    )
    return list(failed.scalars())


def _held_by(claim: Promotion) -> Any:
    return and_(
        promotions.c.id == claim.id,
        promotions.c.attempt == claim.attempt,
        promotions.c.worker == claim.worker,
        promotions.c.status == "running",
    )


async def _end(connection: AsyncConnection, claim: Promotion, **values: Any) -> bool:
    ended = {"finished_at": func.clock_timestamp(), "lease_until": None}
    done = await connection.execute(update(promotions).where(_held_by(claim)).values(ended | values))
    return done.rowcount == 1


def _promotion(row: Row[Any]) -> Promotion:
    return Promotion(
        id=row.id,
        tenant=row.tenant_id,
        name=row.name,
        alias=row.alias,
        challenger=row.challenger_id,
        incumbent=row.incumbent_id,
        alias_version=row.alias_version,
        dataset=row.dataset_id,
        key=row.key_id,
        request_id=row.request_id,
        status=row.status,
        attempt=row.attempt,
        worker=row.worker,
        comparison=None if row.comparison is None else Comparison.model_validate(row.comparison),
        failure=None if row.failure is None else Failure.model_validate(row.failure),
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
