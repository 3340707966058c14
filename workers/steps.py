"""Steps that must not be cut in half: a claim that was committed must be remembered, a computation must be ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Runs coroutines to their end, whatever happens to whoever started them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, step: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin a step; `finish` waits for it."""
        task = asyncio.create_task(step)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Wait for a step. Where the caller is cancelled meanwhile, the step goes on."""
        return await asyncio.shield(self.start(step))

    async def finish(self, patience_s: float | None = None) -> None:
        """Wait for every step under way; those that take longer than ``patience_s`` are cancelled."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=patience_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
