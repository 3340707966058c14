"""An alias that moves between versions of one checkpoint, and models that follow it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kshot.contracts.ids import new_id
from kshot.storage import claiming
from kshot.storage.adapted_models import AdaptedModel
from kshot.storage.aliases import move_alias
from kshot.storage.revisions import list_revisions
from kshot.storage.tasks import Claim
from tests.workers.place import Place
from tests.workers.samples import blobs
from tests.workers.versions import NAME
from workers.decoding import adapt_work
from workers.executing import solve
from workers.work import Outcome

FAR = np.repeat([[0, 9, 0, 0], [9, 0, 0, 0]], 4, axis=0).astype(np.float32)
SUPPORT = replace(blobs(0, k_shot=4), inputs=FAR + np.arange(32, dtype=np.float32).reshape(8, 4) % 5 / 5)


@dataclass(frozen=True)
class Moving:
    """A place with versions of one checkpoint, production pointing at the first."""

    place: Place
    versions: dict[str, str]

    async def move(self, version: str) -> None:
        async with self.place.stack.database.begin() as connection:
            await move_alias(connection, NAME, "production", self.versions[version], "set")

    async def follower(self, **changes: Any) -> Claim:
        """A model of ``SUPPORT`` on the first version, made; its claim."""
        claim = await self.place.claim(await self.queued(**changes))
        await self.settle(claim)
        return claim

    async def queued(self, **changes: Any) -> str:
        values = {"checkpoint": self.versions["first"], "checkpoint_name": NAME, "alias": "production", "follow": True}
        return await self.place.accepted(support=SUPPORT, **(values | changes))

    async def replays(self, lease_s: float = 60) -> list[Claim]:
        async with self.place.stack.database.begin() as connection:
            claims = await claiming.claim(connection, "wrk_me", lease_s, 9, background=True)
        self.place.leases.hold(claims)
        return claims

    async def solved(self, claim: Claim) -> list[Outcome]:
        return solve(await self.place.models.checkpoint(claim.checkpoint), [adapt_work(claim)])

    async def settle(self, *claims: Claim) -> None:
        for claim in claims:
            assert await self.place.settler.settle(await self.solved(claim))

    async def moved(self, version: str) -> None:
        """The alias moves, and what that starts is computed."""
        await self.move(version)
        await self.settle(*await self.replays())

    async def copy_of(self, version: str) -> str:
        """The same weights as a checkpoint of their own, another version."""
        fresh = new_id("ckpt")
        await self.place.execute(
            "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes) "
            "SELECT :id, name, :id, manifest, object_key, bytes FROM checkpoints WHERE id = :of",
            id=fresh, of=self.versions[version],
        )  # fmt: skip
        self.versions[fresh] = fresh
        return fresh

    async def history(self, model: AdaptedModel) -> list[tuple[int, str, str]]:
        names = {checkpoint: name for name, checkpoint in self.versions.items()}
        async with self.place.stack.database.connect() as connection:
            return [
                (line.revision, names[line.checkpoint], line.outcome)
                for line in await list_revisions(connection, model)
            ]

    async def answering(self, claim: Claim) -> tuple[int, str]:
        """The revision that answers, and its version."""
        model = await self.place.model(claim)
        return model.revision, next(name for name, one in self.versions.items() if one == model.checkpoint)
