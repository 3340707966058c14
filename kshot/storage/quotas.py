"""Quotas: what a tenant may have at a time, what it has, and that no two requests take the last place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import QuotaExceeded
from kshot.contracts.jobs import OPEN_STATUSES
from kshot.storage.access_tables import quotas
from kshot.storage.tables import adapted_models, tasks
from kshot.storage.training_tables import datasets, training_jobs

_LOCK = 0x6B71756F  # "kquo"
_RETRY_AFTER_S = 300.0
"""Nothing becomes free by itself any sooner; a client of ours does not wait that long, it tells its caller."""


@dataclass(frozen=True)
class Quotas:
    """None: no bound; of a tenant's own, as the settings say."""

    adapted_models: int | None = None
    stored_bytes: int | None = None
    dataset_bytes: int | None = None
    open_jobs: int | None = None
    requests_per_minute: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of the table."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})

    def over(self, defaults: "Quotas") -> "Quotas":
        """What holds: these, and where one is None, the default."""
        if self is NO_QUOTAS:
            return defaults
        own = {name: value for name, value in asdict(self).items() if value is not None}
        return Quotas(**{**asdict(defaults), **own})

    @property
    def bound_models(self) -> bool:
        """Whether adapted models must be counted before there is another."""
        return self.adapted_models is not None or self.stored_bytes is not None


NO_QUOTAS = Quotas()


async def get_quotas(connection: AsyncConnection, tenant: str) -> Quotas:
    """What was set for a tenant."""
    row = (await connection.execute(select(quotas).where(quotas.c.tenant_id == tenant))).mappings().one_or_none()
    return NO_QUOTAS if row is None else Quotas.of(dict(row))


async def all_quotas(connection: AsyncConnection) -> dict[str, Quotas]:
    """What was set for each tenant for which something was."""
    rows = (await connection.execute(select(quotas))).mappings()
    return {row["tenant_id"]: Quotas.of(dict(row)) for row in rows}


async def set_quotas(connection: AsyncConnection, tenant: str, wanted: Quotas) -> None:
    """All of them, in the place of those before. What a tenant has beyond them it keeps, and gets no more."""
    values = {**asdict(wanted), "changed_at": func.now()}
    await connection.execute(
        insert(quotas)
        .values(tenant_id=tenant, **values)
        .on_conflict_do_update(index_elements=[quotas.c.tenant_id], set_=values)
    )


async def count_models(connection: AsyncConnection, tenant: str) -> tuple[int, int]:
    """Adapted models kept, and the bytes of their support sets."""
    alive = (adapted_models.c.expires_at > func.now()) | adapted_models.c.expires_at.is_(None) | adapted_models.c.pinned
    first = (tasks.c.adapted_model_id == adapted_models.c.id) & ~tasks.c.background
    row = (
        await connection.execute(
            select(func.count(), func.coalesce(func.sum(func.octet_length(tasks.c.payload)), 0))
            .select_from(adapted_models.join(tasks, first))
            .where(adapted_models.c.tenant_id == tenant, adapted_models.c.deleted_at.is_(None), alive)
        )
    ).one()
    return int(row[0]), int(row[1])


async def count_dataset_bytes(connection: AsyncConnection, tenant: str) -> int:
    """Bytes of the files of its data sets."""
    total = func.coalesce(func.sum(datasets.c.bytes), 0)
    own = datasets.c.tenant_id == tenant
    return int(await connection.scalar(select(total).where(own, datasets.c.deleted_at.is_(None))) or 0)


async def count_open_jobs(connection: AsyncConnection, tenant: str) -> int:
    """Meta-training jobs of the tenant that have not ended."""
    own = select(func.count()).where(training_jobs.c.tenant_id == tenant, training_jobs.c.status.in_(OPEN_STATUSES))
    return int(await connection.scalar(own) or 0)


async def check_models(connection: AsyncConnection, tenant: str, held: Quotas, n_bytes: int) -> None:
    """Before an adapted model with a support set of so many bytes is recorded in this transaction: raises
    QuotaExceeded."""
    if not held.bound_models:
        return
    await _one_at_a_time(connection, tenant)
    n_models, stored = await count_models(connection, tenant)
    remedy = "delete adapted models, or let them expire"
    _check("adapted_models", held.adapted_models, n_models, 1, remedy)
    _check("stored_bytes", held.stored_bytes, stored, n_bytes, remedy)


async def check_dataset(connection: AsyncConnection, tenant: str, held: Quotas, n_bytes: int) -> None:
    """The same before a data set of so many bytes is."""
    if held.dataset_bytes is not None:
        await _one_at_a_time(connection, tenant)
        stored = await count_dataset_bytes(connection, tenant)
        _check("dataset_bytes", held.dataset_bytes, stored, n_bytes, "delete data sets")


async def check_job(connection: AsyncConnection, tenant: str, held: Quotas) -> None:
    """The same before a meta-training job is."""
    if held.open_jobs is not None:
        await _one_at_a_time(connection, tenant)
        n_open = await count_open_jobs(connection, tenant)
        _check("open_jobs", held.open_jobs, n_open, 1, "wait for jobs of yours to end, or cancel one")


async def _one_at_a_time(connection: AsyncConnection, tenant: str) -> None:
    """Until the transaction ends, whichever process it is in: two that count at once would both fit."""
    await connection.execute(select(func.pg_advisory_xact_lock(_LOCK, func.hashtext(tenant))))


def _check(name: str, quota: int | None, used: int, wanted: int, remedy: str) -> None:
    if quota is not None and used + wanted > quota:
        message = f"the quota {name} of your tenant is {quota}, {used} are used, and this takes {wanted} more"
        raise QuotaExceeded(f"{message}; {remedy}, or ask an administrator for more", retry_after=_RETRY_AFTER_S)
