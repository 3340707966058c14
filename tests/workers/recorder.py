"""A tenant that lets us record, its models, and the data set of what its callers did."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.datasets import DatasetManifest, RecordedFrom
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload, SupportSet
from kshot.episodes.pool import Pool
from kshot.storage.datasets import insert_dataset
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.feedback import NewFeedback, insert_feedback
from kshot.storage.objects import sha256
from kshot.storage.recording import set_recording
from kshot.storage.tables import DEFAULT_TENANT
from tests.workers.place import Place
from tests.workers.samples import WIDTH, blobs
from workers.data_folders import lay_dataset
from workers.reaper import erase

SPEC = VectorInput(width=WIDTH)


@dataclass(frozen=True)
class Recorder:
    """A place, a tenant of its own, and the data set of what that tenant's callers did."""

    place: Place
    tenant: str
    name: str
    folder: Path

    async def record(self, enabled: bool = True, *, tenant: str | None = None, days: int = 90) -> None:
        async with self.place.stack.database.begin() as connection:
            await set_recording(connection, tenant or self.tenant, enabled=enabled, retention_days=days)

    async def model(self, support: SupportSet, **changes: Any) -> str:
        """An adapted model of this support set, made; its id. ``support_sha256`` as the service computes it."""
        values = {"tenant": self.tenant, "checkpoint_name": self.name, "digest": sha256(support.inputs.tobytes())}
        task_id = await self.place.accepted(support=support, **(values | changes))
        claim = await self.place.claim(task_id)
        await self.place.settler.settle(self.place.solved(claim))
        return claim.adapted_model

    async def tell(self, model: str, support: SupportSet) -> None:
        async with self.place.stack.database.begin() as connection:
            body = Payload(support).encode()
            item = NewFeedback(new_id("fb"), self.tenant, model, None, None, body, len(support), 0, None, None)
            await insert_feedback(connection, item)

    async def dataset(self, *tenants: str, task: Any = "classification") -> str:
        manifest = DatasetManifest(
            id=new_id("ds"), name=new_id("ds").lower().replace("_", "-"), format="recorded_tasks", modality="vector",
            task=task, file="data.safetensors", input=VectorInput(), width=None,
            recorded=RecordedFrom(checkpoint=self.name, tenants=tenants or (self.tenant,)),
        )  # fmt: skip
        async with self.place.stack.database.begin() as connection:
            return (await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=manifest)).id

    async def lay(self, dataset: str, keep_as: str | None = None, made_of_it: str | None = None) -> Path:
        data = self.folder / new_id("job")
        await lay_dataset(self.place.stack.database, self.place.objects, dataset, data, keep_as, made_of_it)
        return data / dataset

    async def delete(self, model: str) -> None:
        async with self.place.stack.database.begin() as connection:
            await delete_adapted_model(connection, self.tenant, model)

    async def expire(self) -> None:
        await self.place.execute(
            "UPDATE adapted_models SET expires_at = now() - interval '1 hour' WHERE tenant_id = :t", t=self.tenant
        )

    async def sweep(self) -> None:
        await erase(self.place.stack.database, self.place.objects)


def tasks_of(pool: Pool) -> set[str]:
    return {name.split("/")[0] for name in pool.classes}


async def made(recorder: Recorder, seeds: Sequence[int], **changes: Any) -> list[str]:
    return [await recorder.model(blobs(seed, k_shot=4), **changes) for seed in seeds]
