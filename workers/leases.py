"""The claims a worker holds, kept alive by heartbeats."""

import asyncio
from collections.abc import Iterable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage import tasks
from kshot.storage.tasks import Claim

_log = structlog.get_logger()


class Leases:
    """Claimed tasks that wait, run, or are being completed.

    ``writing`` is held by whatever updates several of their rows: two such statements of one worker would otherwise
    lock the rows in different orders, and wait for each other.
    """

    def __init__(self, database: AsyncEngine, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        self.writing = asyncio.Lock()
        self._held: dict[tuple[str, int], Claim] = {}
        self.roomier = asyncio.Event()
        """Set whenever a claim is held no more, for whatever reason: there is room for others."""
        self.bytes = 0
        """What the payloads of all claims held take in memory."""
        self.background = 0
        """How many of them are replays, for which nobody waits."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, claims: Iterable[Claim]) -> None:
        """Keep these claims alive from now on."""
        for claim in claims:
            if not self.holds(claim):
                self._held[claim.task_id, claim.attempt] = claim
                self._count(claim, 1)

    def let_go(self, claims: Iterable[Claim]) -> None:
        """These are finished, or given back."""
        for claim in claims:
            if self._held.pop((claim.task_id, claim.attempt), None) is not None:
                self._count(claim, -1)
                self.roomier.set()

    def holds(self, claim: Claim) -> bool:
        """Whether the claim was still ours at the last heartbeat."""
        return (claim.task_id, claim.attempt) in self._held

    async def beat(self) -> None:
        """Extend all leases; forget the claims that were lost (expired and taken, cancelled, deleted)."""
        await self.renew(list(self._held.values()))

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Extend the leases of these claims; the ones that are still ours, which a crash of Postgres does not change.
        The others are forgotten."""
        if not claims:
            return []
        async with self.writing, self._database.begin() as connection:
            kept = await tasks.heartbeat(connection, claims, self._lease_s)
        lost = [claim for claim in claims if claim.task_id not in kept and self.holds(claim)]
        for claim in lost:
            _log.warning("lease_lost", task_id=claim.task_id, attempt=claim.attempt, request_id=claim.request_id)
        self.let_go(lost)
        return [claim for claim in claims if claim.task_id in kept]

    def _count(self, claim: Claim, one: int) -> None:
        self.bytes += one * claim.bytes
        self.background += one * claim.background
