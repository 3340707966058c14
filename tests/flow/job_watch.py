"""Jobs seen from beside: what happened to them, what is waited for, and what is asked of them."""

import asyncio
from typing import Any

import psutil

from standalone import EmbeddedServers
from tests.flow.job_stack import JobStack


async def steer(stack: JobStack, action: Any, job: str) -> None:
    async with stack.database.begin() as connection:
        await action(connection, job)


async def kinds(stack: JobStack, job: str) -> list[str]:
    """What happened, without its progress."""
    return [e.kind for e in await stack.events(job) if e.kind not in ("step", "validation", "saved", "phase", "total")]


async def saved(stack: JobStack, job: str, beyond: int = 0) -> int:
    """The step of the first saved state after that step."""
    async with asyncio.timeout(120):
        while (step := (await stack.job(job)).saved_step) <= beyond:
            await asyncio.sleep(0.02)
    return step


async def until_failed(stack: JobStack, job: str) -> Any:
    async with asyncio.timeout(120):
        while not (row := await stack.job(job)).is_finished:
            await asyncio.sleep(0.05)
    assert row.status == "failed"
    return row


async def until_gone(process: psutil.Process) -> None:
    async with asyncio.timeout(120):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


def restart(servers: EmbeddedServers) -> None:
    for name in ("postgres", "valkey"):
        servers.stop(name)
        servers.start(name)
