"""Claims of certain tasks, as no worker makes them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.claiming import claim
from kshot.storage.tasks import Claim, release


async def claim_these(
    connection: AsyncConnection, worker: str, lease_s: float, ids: Sequence[str], *, last_chance: bool = False
) -> list[Claim]:
    """Those of ``ids`` that are open, claimed; whatever else came along is given back."""
    claims = await claim(connection, worker, lease_s, 10_000, last_chance=last_chance)
    await release(connection, [other for other in claims if other.task_id not in ids])
    return [one for one in claims if one.task_id in ids]
