"""No Docker engine is at hand, so the very commands of docker-compose.yml run here as processes, in its order.

Only what names a container becomes local: hosts in URLs, the port, the folders of secrets and volumes, and the program
file behind ``redis-server``. Two API processes serve.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import URL, make_url

from standalone import embedded_servers, temporary_home
from standalone.binaries import find_valkey
from standalone.self_check import EXAMPLE
from tests.deploy.composition import CHECKOUT, composition, filled_in

pytestmark = pytest.mark.flow
KEY = "0123456789abcdef" * 4
SERVICES = filled_in(composition(), {"KSHOT_API_PROCESSES": "2"})["services"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Composed:
    """The services of the compose file as local processes."""

    def __init__(self, local: dict[str, str], home: Path, port: int) -> None:
        self.local, self.home, self.port = local, home, port

    def words(self, words: list[str]) -> list[str]:
        """A command of the file, for this machine."""
        here = {"python": sys.executable, "8000": str(self.port)}
        return [here.get(word, word.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")) for word in words]

    def environ(self, name: str) -> dict[str, str]:
        given = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
        assert set(self.local) <= set(given)  # what we make local is what the file sets
        for folder in ("/run/secrets", "/data"):
            given = {key: value.replace(folder, f"{self.home}{folder}") for key, value in given.items()}
        alive = {"KSHOT_ALIVE_FILE": f"{self.home}/{name}-alive"}  # as the image says
        return {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **alive, **given, **self.local}

    def run(self, name: str) -> None:
        ended = subprocess.run(
            self.words(SERVICES[name]["command"]), cwd=CHECKOUT, env=self.environ(name), capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr

    @contextmanager
    def running(self, name: str) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(self.words(SERVICES[name]["command"]), cwd=CHECKOUT, env=self.environ(name))
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def is_healthy(self, name: str) -> bool:
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return subprocess.run(self.words(words), capture_output=True).returncode == 0

    def call(self, path: str, body: dict[str, Any] | None = None, key: str | None = KEY) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)


@contextmanager
def compose_redis(folder: Path) -> Iterator[str]:
    """The file's ``redis-server`` command, on a unix socket."""
    program, *options = SERVICES["redis"]["command"]
    assert program == "redis-server"
    found = shutil.which(program) or find_valkey().path
    place = ["--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)]
    process = subprocess.Popen([found, *options, *place], stdout=subprocess.DEVNULL)
    try:
        yield f"unix://{folder / 'redis.sock'}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    with ExitStack() as stack:
        home = stack.enter_context(temporary_home())
        servers = stack.enter_context(embedded_servers(home))
        (home / "redis").mkdir()
        redis_url = stack.enter_context(compose_redis(home / "redis"))
        address = make_url(servers.database_url)
        for folder in ("run/secrets", "data/sets", "data/pretrained"):
            (home / folder).mkdir(parents=True)
        (home / "run/secrets/postgres_password").write_text(str(address.password))
        (home / "run/secrets/admin_key").write_text(f"{KEY}\n")
        url = URL.create(
            address.drivername, address.username, None, address.host, None, address.database, address.query
        )
        local = {"DATABASE_URL": url.render_as_string(), "REDIS_URL": redis_url}
        composed = Composed(local, home, free_port())
        composed.run("migrate")
        composed.run("publish")
        stack.enter_context(composed.running("api"))
        stack.enter_context(composed.running("worker"))
        deadline = time.monotonic() + 120
        while not composed.is_healthy("api") or composed.call("/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield composed


def test_the_composed_service_adapts_for_who_has_the_key_and_nobody_else(composed: Composed) -> None:
    status, model = composed.call("/adapt", EXAMPLE)
    assert (status, model["predictions"][0]["label"]) == (201, "arrival")
    assert composed.call("/adapt", EXAMPLE, key=None)[0] == 401
    status, answer = composed.call("/predict", {"model": model["id"], "inputs": ["my money, please"]})
    assert (status, answer["predictions"][0]["label"]) == (200, "refund")


def test_migrating_and_publishing_again_changes_nothing(composed: Composed) -> None:
    before = composed.call("/v1/checkpoints")
    composed.run("migrate")
    composed.run("publish")
    assert before[0] == 200 and len(before[1]["data"]) > 0
    assert composed.call("/v1/checkpoints") == before


def test_the_composed_trainer_is_seen_and_leaves_when_asked(composed: Composed) -> None:
    def trainers() -> int:
        return int(composed.call("/readyz")[1]["parts"]["trainers"])

    with composed.running("trainer") as trainer:
        deadline = time.monotonic() + 120
        while trainers() != 1:
            assert time.monotonic() < deadline and trainer.poll() is None
            time.sleep(0.2)
    assert trainer.returncode == 0
    while trainers() != 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_worker_shows_that_it_is_alive(composed: Composed) -> None:
    assert time.time() - (composed.home / "worker-alive").stat().st_mtime < 60


def test_a_password_of_another_service_is_refused_and_not_shown(composed: Composed) -> None:
    wrong = composed.home / "wrong"
    wrong.write_text("quite another")
    environ = composed.environ("migrate") | {"POSTGRES_PASSWORD_FILE": str(wrong)}
    ended = subprocess.run(
        composed.words(SERVICES["migrate"]["command"]), cwd=CHECKOUT, env=environ, capture_output=True, text=True
    )
    assert ended.returncode != 0 and "password authentication failed" in ended.stderr
    assert "quite another" not in ended.stderr


@pytest.mark.parametrize("name", ["api", "worker", "migrate"])
def test_a_secret_that_is_not_there_is_named(composed: Composed, name: str) -> None:
    environ = composed.environ(name) | {"POSTGRES_PASSWORD_FILE": "/nowhere/password"}
    ended = subprocess.run(
        composed.words(SERVICES[name]["command"]), cwd=CHECKOUT, env=environ, capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert ended.stderr.strip().endswith(
        "POSTGRES_PASSWORD_FILE: cannot read /nowhere/password (No such file or directory)"
    )


def test_redis_runs_as_the_file_says(composed: Composed) -> None:
    with redis.Redis.from_url(composed.local["REDIS_URL"]) as connection:
        assert connection.config_get("appendonly") == {"appendonly": "yes"}
        assert connection.config_get("save") == {"save": ""}
