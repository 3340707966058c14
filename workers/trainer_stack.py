"""What the trainer's parts share."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage.objects import ObjectStore


@dataclass(frozen=True)
class TrainerStack:
    """``work``: folder below which each run has one of its own. ``lease_s``: a job not renewed for this long is another
    trainer's to take. ``threads``, ``device``: of the processes that train."""

    worker: str
    database: AsyncEngine
    objects: ObjectStore
    work: Path
    lease_s: float
    threads: int
    device: str
