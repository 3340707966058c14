"""The supervisor on small real processes: restarts, giving up, order, and the death of the parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from standalone.errors import StandaloneError
from standalone.parts import Part
from standalone.processes import Command
from standalone.supervisor import StopAsked, Supervisor
from standalone.watchdog import remaining

CHECKOUT = Path(__file__).parents[2]


def shell(name: str, script: str, folder: Path) -> Command:
    return Command(name, ("/bin/sh", "-c", script), dict(os.environ), folder, folder / f"{name}.log")


def until(happened: Callable[[], bool], supervisor: Supervisor | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        if supervisor is not None:
            supervisor.look_after()
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        part = Part(shell("sleeper", "exec sleep 60", tmp_path), "sleeper")
        supervisor.start([part])
        supervisor.wait_ready(["sleeper"])
        first = supervisor.pid("sleeper")
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.pid("sleeper") != first, supervisor)
        second = supervisor.pid("sleeper")
        assert is_running(second)
    assert not is_running(second)
    assert any("ended by SIGKILL; starting it again" in line for line in said)


def test_a_part_that_never_starts_shows_the_end_of_its_log(tmp_path: Path) -> None:
    part = Part(shell("broken", "echo no such module; exit 3", tmp_path), "broken", ready=lambda _: False, attempts=2)
    with Supervisor(print) as supervisor:
        supervisor.start([part])
        with pytest.raises(StandaloneError, match=r"broken does not start(.|\n)*no such module"):
            supervisor.wait_ready(["broken"])
    assert (tmp_path / "broken.log").read_text().count("no such module") == 2


def test_a_part_that_is_never_ready_is_not_waited_for_without_end(tmp_path: Path) -> None:
    part = Part(shell("slow", "sleep 60", tmp_path), "slow", ready=lambda _: False, start_patience=0.2)
    with Supervisor(print) as supervisor:
        supervisor.start([part])
        with pytest.raises(StandaloneError, match="slow is not ready"):
            supervisor.wait_ready(["slow"])


def test_a_command_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with Supervisor(print) as supervisor:
        supervisor.run_once(shell("fine", "true", tmp_path))
        with pytest.raises(StandaloneError, match=r"migrate ended with code 1(.|\n)*no table"):
            supervisor.run_once(shell("migrate", "echo no table; exit 1", tmp_path))


def test_parts_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    said: list[str] = []
    script = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    with Supervisor(said.append) as supervisor:
        supervisor.start([Part(shell(name, script, tmp_path), name) for name in ("store", "queue", "api")])
        supervisor.wait_ready(["store", "queue", "api"])
        time.sleep(0.2)  # let the shells set their traps
        said.clear()
    assert said == ["api: stopped", "queue: stopped", "store: stopped"]


def test_a_part_deaf_to_the_stop_signal_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "trapped"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"
    part = Part(shell("deaf", script, tmp_path), "deaf", ready=lambda _: ready.exists(), stop_patience=0.2)
    with Supervisor(print) as supervisor:
        supervisor.start([part])
        supervisor.wait_ready(["deaf"])
        pid = supervisor.pid("deaf")
    assert not is_running(pid)


def test_a_stop_signal_ends_any_wait(tmp_path: Path) -> None:
    part = Part(shell("slow", "sleep 60", tmp_path), "slow", ready=lambda _: False)
    with Supervisor(print) as supervisor:
        supervisor.start([part])
        pid = supervisor.pid("slow")
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopAsked):
            supervisor.wait_ready(["slow"])
    assert not is_running(pid)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("standalone.supervisor.LOG_CHECK", 0.1)
    writer = "head -c 11000000 /dev/zero; echo later; exec sleep 60"
    written, before = tmp_path / "writer.log", tmp_path / "writer.log.1"

    def is_ready(_: int) -> bool:  # "later" may have been moved aside before anyone looked
        return before.exists() or b"later" in tail(written)

    with Supervisor(print) as supervisor:
        supervisor.start([Part(shell("writer", writer, tmp_path), "writer", ready=is_ready)])
        supervisor.wait_ready(["writer"])
        until(lambda: written.stat().st_size < 10, supervisor)
    assert before.stat().st_size >= 11_000_000


def tail(log: Path) -> bytes:
    return log.read_bytes()[-100:]


PARENT = """
import sys, time
from pathlib import Path
from standalone.processes import Command, start
from standalone.unprivileged import Account
folder = Path(sys.argv[1])
account = Account("nobody", 65534, 65534) if sys.argv[2] == "dropped" else None
child = start(Command("child", ("/bin/sleep", "60"), {}, Path("/"), folder / "log", account))
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("user", ["same", "dropped"])
def test_children_die_with_a_killed_parent_also_after_dropping_root(tmp_path: Path, user: str) -> None:
    if user == "dropped" and os.geteuid() != 0:
        pytest.skip("only root drops to another user")
    words = [sys.executable, "-c", PARENT, str(tmp_path), user]
    parent = subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.communicate()
    until(lambda: not is_running(child))


WATCHED = """
import subprocess, time
from standalone.processes import Watchdog
watchdog = Watchdog()
children = [subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], start_new_session=True) for _ in range(2)]
for child in children:
    watchdog.watch_anywhere(child.pid, 9)
watchdog.forget(children[1].pid)
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def test_where_the_kernel_does_not_help_a_watchdog_ends_the_children() -> None:
    parent = subprocess.Popen([sys.executable, "-c", WATCHED], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    watched, forgotten = map(int, parent.stdout.readline().split())
    try:
        parent.kill()
        parent.wait()
        until(lambda: not is_running(watched))
        assert is_running(forgotten)
    finally:
        os.killpg(forgotten, signal.SIGKILL)
    assert remaining(["+ 7 9\n", "+ 8 2\n", "- 7 0\n"]) == {8: 2}
