"""Support sets as tasks hold them: whole, or, of a model grown from another by a few examples, as the rows that were
added, with the task whose support has all others (``base_task_id``).

So one photograph more for fifty writes one photograph. What others build on is never taken away from them: before a
payload is erased, one of those who build on it becomes whole, and the rest build on that one (`hand_over`).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict
from kshot.contracts.growing import joined
from kshot.contracts.tasks import PAYLOAD_VERSION
from kshot.storage.adapted_models import get_adapted_model
from kshot.storage.tables import tasks

_LINE_FROM = 256 * 1024
"""Bytes of a support from which on it is not written again for a few rows more."""
_LONGEST_LINE = 16
"""Tasks that one support is read from, at most: each is a row to find, and holds those before it in place."""
_LINE = text("""
WITH RECURSIVE line (id, base, place) AS (
    SELECT id, base_task_id, 0 FROM tasks WHERE adapted_model_id = :model AND NOT background
    UNION ALL SELECT tasks.id, tasks.base_task_id, place + 1 FROM tasks JOIN line ON tasks.id = line.base
)
SELECT tasks.id, tasks.payload FROM line JOIN tasks USING (id) ORDER BY place DESC
""")


@dataclass(frozen=True)
class StoredSupport:
    """A support set as it is stored. ``parts``: payloads, to be read by `contracts.growing.joined`. ``task_id``: the
    task that has the last of them."""

    parts: tuple[bytes, ...]
    task_id: str

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return sum(map(len, self.parts))

    def may_be_built_on(self, added: int) -> bool:
        """Whether a support with so many bytes more is stored as these alone."""
        return added < self.n_bytes >= _LINE_FROM and len(self.parts) < _LONGEST_LINE


async def get_support(connection: AsyncConnection, tenant: str, id: str) -> StoredSupport:
    """The examples that the model was adapted from. Raises NotFound, Expired, Conflict where they are gone."""
    await get_adapted_model(connection, tenant, id)
    return await read_support(connection, id)


async def read_support(connection: AsyncConnection, model: str) -> StoredSupport:
    """The same of a model that may be anybody's. Raises Conflict."""
    line = (await connection.execute(_LINE, {"model": model})).all()
    parts = tuple(row.payload for row in line)
    if not parts or None in parts:
        raise Conflict("the examples of this adapted model are no longer stored; adapt again from them")
    return StoredSupport(parts, line[-1].id)


async def hold_base(connection: AsyncConnection, task_id: str) -> None:
    """Before a task is recorded that builds on this one's support: that is not erased until the transaction ends, and
    whoever erases it then sees who builds on it. Raises Conflict where it is gone."""
    held = select(tasks.c.id).where(tasks.c.id == task_id, tasks.c.payload.is_not(None)).with_for_update(read=True)
    if await connection.scalar(held) is None:
        raise Conflict("the examples of the parent were just deleted; adapt from them again")


async def hand_over(connection: AsyncConnection, erased: Sequence[str]) -> None:
    """Before the payloads of these tasks, whose rows the transaction holds already, are erased."""
    others = await connection.execute(
        select(tasks.c.id, tasks.c.base_task_id, tasks.c.adapted_model_id)
        .where(tasks.c.base_task_id.in_(erased), tasks.c.id.not_in(erased), tasks.c.payload.is_not(None))
        .order_by(tasks.c.id)
        .with_for_update()
    )
    heirs: dict[str, str] = {}
    for task_id, base, model in others.all():
        change = update(tasks).where(tasks.c.id == task_id)
        if base in heirs:
            await connection.execute(change.values(base_task_id=heirs[base]))
            continue
        heirs[base] = task_id
        parts = (await read_support(connection, model)).parts
        whole = await asyncio.to_thread(_whole, parts)
        await connection.execute(
            change.values(payload=whole, payload_version=PAYLOAD_VERSION, base_task_id=None, bytes_before=0)
        )


def _whole(parts: Sequence[bytes]) -> bytes:
    return joined(parts).encode()
