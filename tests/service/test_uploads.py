"""Reading uploaded files in child processes: how long that may take."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio import CapacityLimiter, to_process

from service import uploads


async def test_waiting_for_a_checker_does_not_count_as_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(work: Callable[..., Any], *arguments: object, limiter: CapacityLimiter, **_: object) -> Any:
        async with limiter:
            return work(*arguments)

    monkeypatch.setattr(to_process, "run_sync", run)
    state: Any = SimpleNamespace(settings=SimpleNamespace(dataset_check_s=0.05), checkers=CapacityLimiter(1))
    found = list[int]()

    async def read() -> None:
        found.append(await uploads.in_child(state, lambda: 7))

    async with anyio.create_task_group() as group, state.checkers:
        group.start_soon(read)
        await anyio.sleep(0.2)
        assert found == []
    assert found == [7]
