"""Child processes of the trainer, which die with it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_NOT_FOR_CHILDREN = (
    "DATABASE_URL",
    "POSTGRES_PASSWORD",
    "REDIS_URL",
    "KSHOT_ADMIN_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
_PATIENT = {"GOMP_SPINCOUNT": "0"}
"""OpenMP's threads wait for one another by spinning. With low priority on busy cores one of them then burns the time
that the other would need: 0.8 steps/s became 8.8 on two cores with a load of 8, and nothing changed on idle ones."""
_LEASH = Path(__file__).with_name("leash.py")


async def run_child(
    argv: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    stop: asyncio.Event,
    env: Mapping[str, str] | None = None,
    grace_s: float = 30.0,
) -> int:
    """Run a command to its end; returns its exit code, or minus the signal that ended it.

    It has a process group of its own, low priority, its output appended to ``log``, and ``env`` on top of our
    environment without its secrets: a child computes, and talks to nobody. Once ``stop`` is set it gets SIGTERM, and
    after ``grace_s`` the group gets SIGKILL. Cancelling this coroutine kills the group at once. Processes to which the
    child gives sessions of their own have to end with it by themselves; those that share a meta-batch do
    (`kshot.training.world.end_with_parent`). To be called from the main thread's event loop: the kernel takes the death
    of the *thread* that forked for the parent's death.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-ISs", str(_LEASH), str(os.getpid()), *argv),
            cwd=cwd,
            env={**_environment(), **(env or {})},
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
        )
    try:
        await _until_ended(process, stop, grace_s)
    finally:
        _kill_group(process.pid)  # also what the child left behind
        code = await process.wait()
    return code


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return _PATIENT | kept


async def _until_ended(process: Process, stop: asyncio.Event, grace_s: float) -> None:
    """Returns when the process has ended, or has had its time to do so."""
    ended, asked = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([ended, asked], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait([ended], timeout=grace_s)
    finally:
        ended.cancel()
        asked.cancel()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
