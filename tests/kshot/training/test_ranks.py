"""Processes that share a job: how often they are started anew, and that they end with whoever starts them."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

CHECKOUT = Path(__file__).parents[3]
DYING = """
import os, sys
with open(sys.argv[1], "a") as starts:
    starts.write("started ")
os.abort()
"""


def test_processes_that_die_each_time_are_given_up_after_three_more_starts(tmp_path: Path) -> None:
    """The trainer counts the deaths of a job; each that it hears of stands for few."""
    done = subprocess.run(**_ranks(tmp_path, DYING, tmp_path / "starts"), timeout=60, check=False)
    assert done.returncode == 1
    assert (tmp_path / "starts").read_text().split() == 4 * ["started"]


STOPPED = """
import os, signal, sys
from kshot.training.world import end_with_parent
end_with_parent()
with open(sys.argv[1], "w") as started:
    started.write(f"{os.getpid()} {os.getppid()}\\n")
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a parent-death signal is Linux's")
def test_a_process_that_hears_nothing_ends_with_its_agent(tmp_path: Path) -> None:
    """It has a session of its own, so whoever kills the agent's group does not reach it."""
    started = tmp_path / "started"
    agent = subprocess.Popen(**_ranks(tmp_path, STOPPED, started))
    try:
        deadline = time.monotonic() + 120
        while not (started.exists() and started.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        rank, parent = map(int, started.read_text().split())
        assert parent == agent.pid and os.getsid(rank) != os.getsid(parent)
    finally:
        agent.kill()
        agent.wait()
    psutil.wait_procs([psutil.Process(rank)] if psutil.pid_exists(rank) else [], timeout=10)
    assert not psutil.pid_exists(rank) or psutil.Process(rank).status() == psutil.STATUS_ZOMBIE


def _ranks(folder: Path, code: str, told: Path) -> dict[str, Any]:
    """One process of such a program, started by an agent."""
    (folder / "program.py").write_text(code)
    path = os.pathsep.join([str(folder), str(CHECKOUT)])
    command = [sys.executable, "-m", "kshot.training.ranks", "1", "program", str(told)]
    return {"args": command, "env": {**os.environ, "PYTHONPATH": path}, "stderr": subprocess.DEVNULL}
