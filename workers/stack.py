"""What a worker is given: who it is, what it may use."""

from dataclasses import dataclass, field

import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.queue.work import WorkQueue
from kshot.storage.objects import ObjectStore
from workers.batching import Limits
from workers.counting import Counts
from workers.sweeping import Keep


@dataclass(frozen=True)
class Stack:
    """Built in `__main__`, handed to every part of the worker."""

    worker: str
    device: torch.device
    lease_s: float
    limits: Limits
    database: AsyncEngine
    queue: WorkQueue
    objects: ObjectStore
    state_bytes: int = 1 << 30
    keep: Keep = Keep()
    counts: Counts = field(default_factory=Counts)
