"""`make serve` as a newcomer meets it: one command to a ready service, a curl to paste, Ctrl-C to nothing."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from standalone import temporary_home
from standalone.self_check import EXAMPLE

pytestmark = pytest.mark.flow
CHECKOUT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(happened: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


class Serving:
    """One running `python -m standalone serve`, and what it said so far."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        environ |= {
            "KSHOT_HOME": str(home),
            "KSHOT_PORT": str(self.port),
            "KSHOT_DEVICE": "cpu",
            "KSHOT_WORKERS": "2",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "standalone", "serve"],
            cwd=CHECKOUT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        until(lambda: self.process.poll() is not None or self.curl is not None, "the curl to paste")
        assert self.process.poll() is None, self.said

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def curl(self) -> str | None:
        return next((line for line in self.lines if line.startswith("curl ")), None)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            read: dict[str, Any] = json.load(answer)
            return read

    def children(self) -> dict[str, int]:
        """Name -> pid of the supervisor's own children."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        commands = {int(pid): command_of(pid) for pid in listed}
        marks = {
            "api": "-m service",
            "worker": "-m workers adapt",
            "trainer": "-m workers trainer",
            "postgres": "/postgres -D",
            "valkey": "valkey",
        }
        named: dict[str, int] = {}
        for name, mark in marks.items():
            pids = sorted(pid for pid, words in commands.items() if mark in words)
            named |= {name if i == 0 else f"{name}-{i + 1}": pid for i, pid in enumerate(pids)}
        return named

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def command_of(pid: str) -> str:
    """A process's command line; empty where it ended since it was listed."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def serving(home: Path) -> Iterator[Serving]:
    running = Serving(home)
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)


def test_it_says_where_it_listens_and_what_the_self_check_answered(serving: Serving) -> None:
    assert f"listening at {serving.url}" in serving.said
    assert re.search(
        r'self-check: 4 examples, then "my new card is late" -> arrival \([01]\.\d\d\) in \d+ ms', serving.said
    )


def test_the_curl_works_word_for_word(serving: Serving) -> None:
    assert serving.curl is not None
    pasted = subprocess.run(["sh", "-c", serving.curl], capture_output=True, text=True, timeout=30)
    assert json.loads(pasted.stdout)["predictions"][0]["label"] == "arrival"


@pytest.mark.reliability("faults: supervisor of the embedded stack", "second starter")
def test_a_second_starter_is_refused(serving: Serving) -> None:
    environ = os.environ | {"KSHOT_HOME": str(serving.home), "KSHOT_PORT": str(free_port())}
    words = [sys.executable, "-m", "standalone", "serve"]
    second = subprocess.run(words, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert f"(process {serving.process.pid}) already uses {serving.home}" in second.stderr


@pytest.mark.parametrize("name", ["worker", "trainer", "api", "valkey", "postgres"])
def test_whatever_is_killed_comes_back_unaided(serving: Serving, name: str) -> None:
    before = serving.children()[name]
    os.kill(before, signal.SIGKILL)
    until(lambda: serving.children().get(name, before) != before, f"another {name}")

    def adapts() -> bool:
        try:
            return bool(serving.call("/adapt", EXAMPLE)["predictions"])
        except (OSError, KeyError):
            return False

    until(adapts, f"an answer after {name} was killed")
    until(lambda: serving.call("/readyz")["parts"]["trainers"] > 0, f"a trainer after {name} was killed")


@pytest.mark.reliability("faults: supervisor of the embedded stack", "no orphans", "next start")
def test_sigterm_stops_everything_a_second_start_finds_its_data_and_sigkill_leaves_nothing(serving: Serving) -> None:
    model = serving.call("/adapt", EXAMPLE)["id"]
    pids = serving.children()
    assert set(pids) == {"api", "worker", "worker-2", "trainer", "postgres", "valkey"}
    assert serving.stop(signal.SIGTERM) == 0, serving.said
    assert all(is_gone(pid) for pid in pids.values())
    stops = re.findall(r"  ([\w-]+)[\w. ]*: stopped\n", serving.said.rpartition("stopping")[2])
    assert stops == ["trainer", "worker-2", "api", "worker", "valkey", "postgres"]

    again = Serving(serving.home)
    try:
        assert again.call(f"/v1/adapted-models/{model}")["id"] == model
        answer = again.call("/predict", {"model": model, "inputs": ["money back please"]})
        assert answer["predictions"][0]["label"] == "refund"
    finally:
        children = again.children().values()
        again.process.kill()
        again.process.wait()
    until(lambda: all(is_gone(pid) for pid in children), "the end of a killed supervisor's children")
