"""Several API processes behind one port."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.flow.conftest import HttpStack
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, PYTHON, free_port, vector_task

pytestmark = pytest.mark.flow


@pytest.fixture
def parent(http_stack: HttpStack, tmp_path: Path) -> Iterator[tuple[psutil.Popen, str]]:
    port = free_port()
    environ = {**os.environ, **http_stack.environ}
    with (tmp_path / "log").open("wb") as log:
        command = [*PYTHON, "service", "serve", "--port", str(port), "--processes", "2"]
        process = psutil.Popen(command, cwd=CHECKOUT, env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: len(listening(process)) == 2)
        yield process, url
    finally:
        if process.is_running():
            process.kill()
            process.wait()


def listening(process: psutil.Popen) -> set[int]:
    """The children that answer on the shared port by now."""
    found = set()
    for child in process.children():
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if any(one.status == "LISTEN" for one in child.net_connections("tcp")):
                found.add(child.pid)
    return found


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_answers_with_its_own_replies_and_one_that_dies_is_replaced(
    http_stack: HttpStack, parent: tuple[psutil.Popen, str]
) -> None:
    process, url = parent
    headers = {"Authorization": f"Bearer {http_stack.key('processes')['key']}"}
    with ThreadPoolExecutor(8) as pool:  # a connection each, so both processes get some
        answers = list(pool.map(lambda i: httpx.post(f"{url}/adapt", json=vector_task(i), headers=headers), range(16)))
    assert [answer.status_code for answer in answers] == [201] * 16
    before = listening(process)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(listening(process)) == 2 and listening(process) != before)
    for _ in range(8):
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert adapted(url) == 16  # whichever is asked, and though one of them has died


def adapted(url: str) -> float:
    """How many adaptations /metrics counts."""
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return sum(
        sample.value
        for sample in families["kshot_http_requests"].samples
        if sample.labels["route"] in {"/adapt", "/v1/adapt"} and sample.labels["status"] == "201"
    )


@pytest.mark.reliability("faults: SIGTERM with 5 running", "API")
def test_the_end_waits_for_requests_under_way(http_stack: HttpStack, parent: tuple[psutil.Popen, str]) -> None:
    process, url = parent
    body, children = json.dumps(vector_task(100)).encode(), process.children()
    headers = {"Authorization": f"Bearer {http_stack.key('ending')['key']}", "Content-Type": "application/json"}
    connections = [http.client.HTTPConnection(url.removeprefix("http://"), timeout=30) for _ in range(4)]
    for connection in connections:
        connection.putrequest("POST", "/adapt")
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body[:10])
    time.sleep(0.5)  # each is read from by now
    process.terminate()
    time.sleep(0.5)
    for connection in connections:
        connection.send(body[10:])
    assert {connection.getresponse().status for connection in connections} <= {200, 201}
    assert process.wait(30) == 0
    assert not any(child.is_running() for child in children)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_none_outlives_a_parent_that_was_killed(parent: tuple[psutil.Popen, str]) -> None:
    process, _ = parent
    children = process.children()
    process.kill()
    process.wait()
    until(lambda: not any(child.is_running() for child in children))


def test_what_cannot_start_ends_with_its_exit_code(http_stack: HttpStack) -> None:
    environ = {**os.environ, **http_stack.environ, "KSHOT_MAX_OPEN_TASKS": "1"}
    command = [*PYTHON, "service", "serve", "--port", str(free_port()), "--processes", "2"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, timeout=60)
    assert done.returncode == 2


def test_a_port_that_is_taken_is_told_in_one_line(http_stack: HttpStack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        command = [*PYTHON, "service", "serve", "--port", str(other.getsockname()[1]), "--processes", "2"]
        environ = {**os.environ, **http_stack.environ}
        done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1 and len(said.splitlines()) == 1 and "cannot_listen" in said
