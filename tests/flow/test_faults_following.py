"""A worker that dies between computing a replay and letting it answer: the old state answers, then the new one."""

import signal

import numpy as np
import pytest
from sqlalchemy import text

from kshot.contracts.ids import new_id
from kshot.storage.aliases import move_alias
from tests.flow.fault_stack import Stack, Submitted, blobs

pytestmark = pytest.mark.flow
_COPY = text(
    "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes) "
    "SELECT :id, name, :id, manifest, object_key, bytes FROM checkpoints WHERE id = :of"
)
_REPLAY = "SELECT {} FROM tasks WHERE adapted_model_id = :id AND background"


async def move_to_a_copy(stack: Stack, task: Submitted) -> str:
    """The alias moves to a checkpoint of the same weights."""
    copy = new_id("ckpt")
    async with stack.database.begin() as connection:
        await connection.execute(text("UPDATE adapted_models SET follow = true WHERE id = :id"), {"id": task.model_id})
        await connection.execute(_COPY, {"id": copy, "of": task.checkpoint_id})
        await move_alias(connection, "near", "production", copy, "set")
    return copy


@pytest.mark.reliability("faults: worker SIGKILLed mid-adapt", "following")
async def test_a_worker_killed_before_the_switch_costs_one_attempt(stack: Stack):
    asked = np.asarray(blobs(3).inputs)
    with stack.worker() as heir:
        task = await stack.submit("near", blobs(3))
        await stack.until(task, "succeeded")
        before = await stack.predict(task, asked)
        heir.signal(signal.SIGSTOP)
        copy = await move_to_a_copy(stack, task)
        async with stack.database.begin() as holding:  # whoever is to switch waits for this row
            await holding.execute(text("SELECT 1 FROM adapted_models WHERE id = :id FOR UPDATE"), {"id": task.model_id})
            replay = Submitted(
                await stack.scalar(_REPLAY.format("id"), id=task.model_id), task.model_id, task.tenant, copy
            )
            with stack.worker() as killed:
                await stack.until_locked_out()
                killed.kill()
        heir.signal(signal.SIGCONT)
        assert (await stack.until(replay, "succeeded")).attempt == 2
        row = "SELECT checkpoint_id || ' ' || revision FROM adapted_models WHERE id = :id"
        assert await stack.scalar(row, id=task.model_id) == f"{copy} 2"
        assert (await stack.predict(task, asked)).predictions == before.predictions
    assert await stack.results(replay) == 1
