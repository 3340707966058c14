"""No Docker engine is at hand, so the very commands of docker-compose.yml run here as processes, in its order.

Only what names a container becomes local: hosts in URLs, the port, the folders of secrets and volumes, and the program
file behind ``redis-server``. Two API processes serve.
"""

import asyncio
import json
import os
import re
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
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL, make_url
from structlog.testing import capture_logs

from kshot.storage.database import open_database
from service.settings import Settings
from service.sizing import check_connections
from standalone import EmbeddedServers, embedded_servers, temporary_home
from standalone.binaries import find_valkey
from standalone.self_check import EXAMPLE
from tests.deploy.composition import CHECKOUT, composition, filled_in
from tests.deploy.manifests import containers, of_kind, sources
from tests.deploy.promql import asked

pytestmark = pytest.mark.flow
KEY = "0123456789abcdef" * 4
SERVICES = filled_in(composition(), {"KSHOT_API_PROCESSES": "2"})["services"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Composed:
    """The services of the compose file as local processes."""

    def __init__(self, servers: EmbeddedServers, local: dict[str, str], home: Path, port: int) -> None:
        self.servers, self.local, self.home, self.port = servers, local, home, port

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

    def is_migrated(self) -> bool:
        """What each pod of the Kubernetes manifests asks until it is so."""
        deployment = of_kind(sources(), "Deployment")[0]
        shell, option, loop = containers(deployment["spec"]["template"])[0]["command"]
        found = re.fullmatch(r"until (python .*); do sleep 2; done", loop)
        assert (shell, option) == ("sh", "-c") and found is not None
        words = self.words(found[1].split())
        return subprocess.run(words, cwd=CHECKOUT, env=self.environ("migrate"), capture_output=True).returncode == 0

    def metrics(self) -> list[Metric]:
        """What Prometheus would read now, with the key it is given."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/metrics", headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))

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


def assert_exposed(families: list[Metric]) -> None:
    """Each metric that is asked for has a sample with the labels that are asked for, and gauges the very values."""
    of_target = {"instance", "pod", "job"}  # Prometheus puts these on
    exposed = {sample.name: (family.type, family) for family in families for sample in family.samples}
    for one in asked():
        if one.metric == "up":  # Prometheus's own
            continue
        assert one.metric in exposed, f"{one.place} asks for {one.metric}"
        kind, family = exposed[one.metric]
        samples = [sample.labels for sample in family.samples if sample.name == one.metric]
        assert one.labels <= set(samples[0]) | of_target, f"{one.place} asks {one.metric} for {sorted(one.labels)}"
        if kind == "gauge":
            assert any(one.values <= set(labels.items()) for labels in samples), f"{one.place}: {sorted(one.values)}"


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
        composed = Composed(servers, local, home, free_port())
        assert not composed.is_migrated()
        composed.run("migrate")
        assert composed.is_migrated()
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


def test_processes_behind_one_port_count_together(composed: Composed) -> None:
    for _ in range(20):
        assert composed.call("/v1/limits")[0] == 200
    for _ in range(6):  # whichever of the two is asked
        counted = {
            sample.value
            for family in composed.metrics()
            for sample in family.samples
            if sample.name == "kshot_http_requests_total" and sample.labels["route"] == "/v1/limits"
        }
        assert counted == {20}


def test_the_composed_trainer_is_seen_and_leaves_when_asked(composed: Composed) -> None:
    """While it trains, every metric and label that alerts, dashboard and scalers ask for is exposed."""

    def trainers() -> int:
        return int(composed.call("/readyz")[1]["parts"]["trainers"])

    def is_training() -> bool:
        names = {sample.name for family in composed.metrics() for sample in family.samples}
        told = {"kshot_training_steps", "kshot_training_loss", "kshot_training_heartbeat_age_seconds"}
        return told | {"kshot_tasks_total"} <= names

    assert composed.call("/adapt", EXAMPLE)[0] in {200, 201}  # so that a worker has counted
    dataset = composed.call("/v1/datasets", {"name": "waves", "source": "sinusoid"})[1]["id"]
    asked_for = {"dataset": dataset, "name": "waves", "steps": 10**6, "evaluate": []}
    status, job = composed.call("/v1/training-jobs", asked_for)
    assert status in {201, 202}, job
    with composed.running("trainer") as trainer:
        deadline = time.monotonic() + 120
        while trainers() != 1 or not is_training():
            assert time.monotonic() < deadline and trainer.poll() is None
            time.sleep(0.2)
        assert_exposed(composed.metrics())
        assert composed.call(f"/v1/training-jobs/{job['id']}/cancel", {})[0] in {200, 202}
    assert trainer.returncode == 0
    while trainers() != 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_worker_shows_that_it_is_alive(composed: Composed) -> None:
    assert time.time() - (composed.home / "worker-alive").stat().st_mtime < 60


@pytest.mark.parametrize(("processes", "fits"), [(2, True), (20, False)])
def test_the_start_says_when_postgres_has_too_few_connections(composed: Composed, processes: int, fits: bool) -> None:
    settings = Settings(
        database_url=composed.servers.database_url, redis_url=composed.local["REDIS_URL"], database_connections=20
    )

    async def check() -> bool:
        engine = open_database(settings.database, pool_size=1)
        async with engine.connect() as connection:
            found = await check_connections(connection, settings, processes)
        await engine.dispose()
        return found

    with capture_logs() as said:
        assert asyncio.run(check()) is fits
    assert [(line["event"], line["log_level"]) for line in said] == (
        [] if fits else [("too_few_database_connections", "warning")]
    )


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
