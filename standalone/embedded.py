"""Postgres and Valkey for a test or a script, in a supervisor process of their own.

A process of its own, because children must be forked from a single-threaded parent, and because a test then runs what
``make serve`` runs. It ends when our end of its standard input closes, so it never outlives us.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from standalone.errors import StandaloneError

ServerName = Literal["postgres", "valkey"]
CHECKOUT = Path(__file__).resolve().parents[1]


class EmbeddedServers:
    """Running servers, and the levers that fault tests need."""

    def __init__(self, process: "subprocess.Popen[str]", home: Path, urls: dict[str, Any]) -> None:
        self._process = process
        self.home = home
        self.database_url: str = urls["database_url"]
        self.redis_url: str = urls["redis_url"]

    @property
    def environ(self) -> dict[str, str]:
        """What kshot's commands need in their environment to use these servers."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "KSHOT_HOME": str(self.home),
            "KSHOT_OBJECTS": str(self.home / "objects"),
        }

    @property
    def supervisor_pid(self) -> int:
        return self._process.pid

    def pid(self, name: ServerName) -> int:
        """The process id of a server: kill it, and the supervisor starts it again under another one."""
        return int(self._ask("pid", name)["pid"])

    def stop(self, name: ServerName) -> None:
        """Stop a server and keep it down until :meth:`start`."""
        self._ask("stop", name)

    def start(self, name: ServerName) -> None:
        """Start a server again after :meth:`stop`; returns when it serves."""
        self._ask("start", name)

    def delete_data(self, name: Literal["valkey"]) -> None:
        """Delete the data of a stopped Valkey."""
        shutil.rmtree((self.home / "servers").resolve() / name)

    def _ask(self, verb: str, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb} {name}\n")
        self._process.stdin.flush()
        return _answer(self._process)

    def close(self) -> None:
        """Stop both servers, cleanly."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def embedded_servers(home: Path | None = None) -> Iterator[EmbeddedServers]:
    """Real Postgres and Valkey below ``home``; without one, below a temporary folder that goes at the end.

    As root the servers run as another user, so ``home`` should be a folder that others may enter (not pytest's
    ``tmp_path``, which is 0700): else their data goes to ``/var/lib/kshot``.

    Raises:
        StandaloneError: they do not start; the message says why.
    """
    if home is None:
        with temporary_home() as folder, embedded_servers(folder) as servers:
            yield servers
        return
    with tempfile.TemporaryFile("w+") as complaints:  # not a pipe, which nobody would empty
        process = _start_servers(home, complaints)
        try:
            servers = EmbeddedServers(process, home, _answer(process))
        except StandaloneError:
            complaints.seek(0)
            raise StandaloneError(complaints.read().strip()) from None
        try:
            yield servers
        finally:
            servers.close()


def _start_servers(home: Path, complaints: IO[str]) -> "subprocess.Popen[str]":
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, "-m", "standalone", "servers", "--until-stdin-closes"],
        cwd=CHECKOUT,
        env=environ | {"KSHOT_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
    )


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A short-lived folder that the servers' user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="kshot-home-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise StandaloneError(f"the servers ended with code {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer
