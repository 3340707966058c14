"""A task at its last attempt runs alone, and a broken GPU ends the process wherever it shows."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest

from kshot.storage.objects import LocalObjects
from tests.workers.place import Place
from tests.workers.samples import blobs
from workers import adaptation
from workers.adaptation import AdaptationWorker
from workers.device import DeviceLost


class SlowObjects(LocalObjects):
    """An object store that lets nobody write until it is told to."""

    asked = threading.Event()
    open = threading.Event()

    def put(self, key: str, blob: bytes) -> None:
        self.asked.set()
        self.open.wait()
        super().put(key, blob)


async def last_chance(place: Place, **parts: object) -> str:
    task = await place.accepted(**parts)
    await place.execute("UPDATE tasks SET attempt = max_attempts - 1 WHERE id = :id", id=task)
    return task


@pytest.mark.reliability("faults: poison task", "adapt")
@pytest.mark.usefixtures("stored")
async def test_the_next_one_is_claimed_once_the_one_before_is_committed(place: Place):
    innocent, poison = await last_chance(place), await last_chance(place)
    objects = SlowObjects(place.objects._folder)
    worker = AdaptationWorker(dataclasses.replace(place.stack, objects=objects))
    chances = asyncio.create_task(worker._last_chances())
    await asyncio.to_thread(objects.asked.wait)
    await asyncio.sleep(0.5)  # time enough to claim the next, and to die of it
    before = [(await place.row(task)).status for task in (innocent, poison)]
    objects.open.set()
    await chances
    assert before == ["running", "queued"]
    assert [(await place.row(task)).status for task in (innocent, poison)] == ["succeeded", "succeeded"]


async def test_a_gpu_that_breaks_under_a_last_chance_ends_the_worker(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adaptation, "is_lost", lambda device: True)
    support = blobs(0)
    support.inputs[0, 0] = np.nan  # fails to compute, so the worker looks at its device
    task = await last_chance(place, support=support)
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(AdaptationWorker(place.stack).run(asyncio.Event()), 30)
    assert (await place.row(task)).status == "running"  # nothing is blamed on it before its lease ends
