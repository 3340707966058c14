"""The claims a worker holds, kept alive by heartbeats."""

import asyncio
from collections.abc import Iterable

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

    def __len__(self) -> int:
        return len(self._held)

    @property
    def bytes(self) -> int:
        """What the payloads of all claims held take in memory."""
        return sum(claim.bytes for claim in self._held.values())

    @property
    def background(self) -> int:
        """How many of them are replays, for which nobody waits."""
        return sum(claim.background for claim in self._held.values())

    def hold(self, claims: Iterable[Claim]) -> None:
        """Keep these claims alive from now on."""
        self._held |= {(claim.task_id, claim.attempt): claim for claim in claims}

    def let_go(self, claims: Iterable[Claim]) -> None:
        """These are finished, or given back."""
        for claim in claims:
            self._held.pop((claim.task_id, claim.attempt), None)

    def holds(self, claim: Claim) -> bool:
        """Whether the claim was still ours at the last heartbeat."""
        return (claim.task_id, claim.attempt) in self._held

    async def beat(self) -> None:
        """Extend all leases; forget the claims that were lost (expired and taken, cancelled, deleted)."""
        async with self.writing:
            sent = list(self._held.values())
            if not sent:
                return
            async with self._database.begin() as connection:
                kept = await tasks.heartbeat(connection, sent, self._lease_s)
        lost = [claim for claim in sent if claim.task_id not in kept]
        for claim in lost:
            if self.holds(claim):
                _log.warning("lease_lost", task_id=claim.task_id, attempt=claim.attempt, request_id=claim.request_id)
        self.let_go(lost)
