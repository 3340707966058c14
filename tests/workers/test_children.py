"""Child processes: how they end, and that nothing of them stays."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workers.children import run_child

IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "


async def _said(log: Path) -> list[str]:
    """The child's lines, once there is one."""
    async with asyncio.timeout(120):
        while not log.exists() or not log.read_text().endswith("\n"):
            await asyncio.sleep(0.01)
    return log.read_text().split()


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_exit_code_output_folder_environment_and_priority(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['WORD'], os.nice(0) - PARENT); raise SystemExit(7)"
    argv = _python(code.replace("PARENT", str(os.nice(0))))
    log = tmp_path / "log"
    ended = await run_child(argv, cwd=tmp_path, log=log, stop=asyncio.Event(), env={"WORD": "seen"})
    assert (ended, log.read_text().split()) == (7, [str(tmp_path), "seen", str(min(10, 19 - os.nice(0)))])


async def test_a_death_by_signal_is_told(tmp_path: Path) -> None:
    argv = _python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert await run_child(argv, cwd=tmp_path, log=tmp_path / "log", stop=asyncio.Event()) == -signal.SIGKILL


async def test_stop_asks_first(tmp_path: Path) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print(1, flush=True); "
    stop, log = asyncio.Event(), tmp_path / "log"
    running = asyncio.create_task(run_child(_python(code + "time.sleep(60)"), cwd=tmp_path, log=log, stop=stop))
    await _said(log)
    stop.set()
    assert await running == 75


async def test_what_ignores_the_question_is_killed_with_its_group(tmp_path: Path) -> None:
    code = (
        IGNORES_SIGTERM + "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    stop, log = asyncio.Event(), tmp_path / "log"
    child = run_child(_python(code), cwd=tmp_path, log=log, stop=stop, grace_s=0.2)
    running = asyncio.create_task(child)
    while len(said := await _said(log)) < 2:
        await asyncio.sleep(0.01)
    stop.set()
    assert await running == -signal.SIGKILL
    await _until_gone(int(said[1]))


async def test_cancelling_kills_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import os; print(os.getpid(), flush=True); " + IGNORES_SIGTERM + "time.sleep(60)"
    running = asyncio.create_task(run_child(_python(code), cwd=tmp_path, log=log, stop=asyncio.Event()))
    said = await _said(log)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _until_gone(int(said[0]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a parent-death signal is Linux's")
async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(log)], cwd=Path(__file__).parents[2])
    child = int((await _said(log))[0])
    parent.kill()
    parent.wait()
    await _until_gone(child)


_PARENT = """
import asyncio, sys
from pathlib import Path
from workers.children import run_child
log = Path(sys.argv[1])
argv = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
asyncio.run(run_child(argv, cwd=log.parent, log=log, stop=asyncio.Event()))
"""


async def _until_gone(pid: int) -> None:
    """Gone, or a zombie whose new parent has not looked yet."""
    async with asyncio.timeout(60):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
