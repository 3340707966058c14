"""How often processes that share a job are started anew."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
DYING = """
import os, sys
with open(sys.argv[1], "a") as starts:
    starts.write("started ")
os.abort()
"""


def test_processes_that_die_each_time_are_given_up_after_three_more_starts(tmp_path: Path) -> None:
    """The trainer counts the deaths of a job; each that it hears of stands for few."""
    (tmp_path / "dying.py").write_text(DYING)
    path = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
    command = [sys.executable, "-m", "kshot.training.ranks", "1", "dying", str(tmp_path / "starts")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (tmp_path / "starts").read_text().split() == 4 * ["started"]
