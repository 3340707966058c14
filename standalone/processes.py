"""Child processes that die with their parent, however it dies.

On Linux the kernel does it (``PR_SET_PDEATHSIG``); elsewhere a watchdog process that reads a pipe from us. Every child
has a session of its own, so Ctrl-C at the terminal reaches the supervisor alone, which then stops them in order.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from standalone.errors import StandaloneError
from standalone.unprivileged import Account

PR_SET_PDEATHSIG = 1
POLL = 0.005  # seconds between looks at a process that is starting or stopping
LARGEST_LOG = 10_000_000  # bytes


@dataclass(frozen=True)
class Command:
    """What to start, as whom, and which signal it gets when the parent dies."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    account: Account | None = None
    on_parent_death: signal.Signals = signal.SIGKILL


def start(command: Command, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start ``command`` with its output in its log file.

    Must be called from the main thread: the kernel takes the death of the *thread* that forked for the parent's death.
    """
    assert threading.current_thread() is threading.main_thread(), "children must be started from the main thread"
    account = command.account
    with _open_log(command.log) as log:
        process = subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=_die_with_parent(command.on_parent_death),  # noqa: PLW1509 (one thread: see the assertion)
        )
    _watchdog.watch(process.pid, command.on_parent_death)
    return process


def run(command: Command, typed: str = "") -> None:
    """Start ``command``, type ``typed`` into it, and wait for its end.

    Raises:
        StandaloneError: it ended with another code than 0.
    """
    process = start(command, stdin=subprocess.PIPE)
    process.communicate(typed.encode())
    _watchdog.forget(process.pid)
    if process.returncode != 0:
        raise StandaloneError(f"{command.name} failed; the end of {command.log}:\n{last_lines(command.log)}")


def stop(
    process: subprocess.Popen[bytes],
    gentle: signal.Signals,
    patience: float,
    hurry: Callable[[], bool] = lambda: False,
) -> int:
    """Ask ``process`` to end; after ``patience`` seconds, or once ``hurry`` says so, make it. Returns its exit code."""
    deadline = time.monotonic() + patience
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)  # a stopped process would not hear the next one
        process.send_signal(gentle)
    while process.poll() is None and time.monotonic() < deadline and not hurry():
        time.sleep(POLL)
    if process.poll() is None:
        process.kill()
    _watchdog.forget(process.pid)
    return process.wait()


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, indented, for an error message."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 16_384))
        lines = stream.read().decode(errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines)


def keep_short(log: Path) -> None:
    """Move what a log holds to ``NAME.log.1`` once it is too long. Its writer appends, so it goes on at the new end."""
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _open_log(log: Path) -> IO[bytes]:
    keep_short(log)
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")


def _die_with_parent(signal_number: int) -> Callable[[], None] | None:
    """What the child runs between fork and exec. ``subprocess`` has already dropped the user by then, which matters:
    setuid clears the parent-death signal."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def in_child() -> None:
        if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            os._exit(126)
        if os.getppid() != parent:  # it died before the line above
            os._exit(125)

    return in_child


class Watchdog:
    """Kills the children once the pipe from us closes: for systems without a parent-death signal."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int, signal_number: int) -> None:
        if sys.platform.startswith("linux"):
            return
        self.watch_anywhere(pid, signal_number)

    def watch_anywhere(self, pid: int, signal_number: int) -> None:
        if self._process is None:
            argv = [sys.executable, "-I", str(Path(__file__).with_name("watchdog.py"))]
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        self._tell(f"+ {pid} {int(signal_number)}\n")

    def forget(self, pid: int) -> None:
        if self._process is not None:
            self._tell(f"- {pid} 0\n")

    def _tell(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


_watchdog = Watchdog()
