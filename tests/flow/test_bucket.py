"""The whole service on a bucket: nothing but the setting differs, and a bucket that is away costs time alone."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.storage.objects import LocalObjects, ObjectStore, open_objects
from standalone import embedded_servers
from tests.buckets import BucketServer, bucket_server
from tests.flow.dataset_calls import upload
from tests.flow.http_stack import (
    CHECKOUT,
    PYTHON,
    Api,
    assert_problem,
    migrate_and_publish,
    run_api,
    run_process,
    run_worker,
)
from tests.kshot.training.test_gate import vectors

pytestmark = pytest.mark.flow
_WIDTH, _WAYS = 1024, 20
"""Their weights alone take more than a row may hold."""


@dataclass(frozen=True)
class Service:
    """A keyless API and a trainer; each test starts its worker."""

    bucket: BucketServer
    api: Api
    client: httpx.Client
    environ: dict[str, str]
    folder: Path

    def worker(self) -> Any:
        return run_worker(self.environ, self.folder, self.api)

    def until(self, check: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def store(self) -> str:
        """What readiness says of it."""
        return str(self.client.get("/readyz").json()["parts"]["objects"])


@pytest.fixture(scope="module")
def service(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("bucket")
    with embedded_servers() as servers, bucket_server() as bucket:
        settings = {"KSHOT_OBJECTS": bucket.address, "KSHOT_CACHE": str(folder / "cache"), "KSHOT_DEVICE": "cpu"}
        environ = servers.environ | bucket.environ | settings
        migrate_and_publish(environ, checkpoints)
        with (
            run_api(environ, folder) as api,
            run_process(environ | {"KSHOT_TRAINER_THREADS": "1"}, folder / "trainer.log", "workers", "trainer"),
            api.client() as client,
        ):
            yield Service(bucket, api, client, environ, folder)


@pytest.fixture
def objects(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The bucket, looked into from outside."""
    for name, value in service.bucket.environ.items():
        monkeypatch.setenv(name, value)
    return open_objects(service.bucket.address, tmp_path / "cache")


def large_task(seed: int) -> dict[str, Any]:
    """An adapt request whose state is too large for its row."""
    inputs = np.random.default_rng(seed).normal(size=(2 * _WAYS, _WIDTH)).round(3).tolist()
    return {"checkpoint": "plain", "support": {"inputs": inputs, "labels": [f"c{i % _WAYS}" for i in range(2 * _WAYS)]}}


def predicted(client: httpx.Client, model: str, width: int = _WIDTH) -> str:
    """The answer as text, without its timings."""
    inputs = np.random.default_rng(7).normal(size=(3, width)).round(3).tolist()
    answer = client.post("/predict", json={"model": model, "inputs": inputs, "return": ["labels", "logits"]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"])


def test_a_large_state_is_read_back_from_the_bucket_and_goes_with_its_model(service: Service, objects: ObjectStore):
    with service.worker():
        model = service.client.post("/adapt", json=large_task(1)).json()["id"]
        before = predicted(service.client, model)
        assert len(objects.keys("states")) == 1 and service.store() == "up"
    with service.worker():  # a worker that has seen nothing yet
        assert predicted(service.client, model) == before
    assert service.client.delete(f"/v1/adapted-models/{model}").status_code == 200
    assert objects.keys("states") == []


def test_a_data_set_trains_a_checkpoint_that_is_promoted_and_answers(service: Service, objects: ObjectStore):
    client = service.client
    once = {"Idempotency-Key": "once"}
    dataset = upload(client, vectors(), "vectors.npz", once, name="vectors").json()
    again = upload(client, vectors(), "vectors.npz", once, name="vectors")
    assert (again.status_code, again.json()["id"]) == (200, dataset["id"])
    assert objects.keys("datasets") == [f"datasets/{dataset['id']}.npz"], "what came twice lies there once"
    assert objects.get(f"datasets/{dataset['id']}.npz") == vectors()
    wanted = {"dataset": dataset["id"], "name": "from-a-bucket", "steps": 20, "evaluate": []}
    job = client.post("/v1/training-jobs", json=wanted).json()["id"]

    def has_ended() -> bool:
        return client.get(f"/v1/training-jobs/{job}").json()["finished_at"] is not None

    service.until(has_ended)
    ended = client.get(f"/v1/training-jobs/{job}").json()
    assert ended["status"] == "succeeded", ended
    service.until(lambda: objects.keys("jobs") == [])
    promoted = client.put("/v1/aliases/from-a-bucket@production", json={"checkpoint": ended["checkpoint"]})
    assert promoted.status_code in (200, 201), promoted.text
    support = {"inputs": np.eye(8).tolist(), "labels": ["a", "b"] * 4}
    with service.worker():
        made = client.post("/adapt", json={"checkpoint": "from-a-bucket", "support": support})
        assert made.status_code == 201 and predicted(client, made.json()["id"], width=8)
    assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 200
    assert objects.keys("datasets") == []


def test_a_bucket_is_backed_up_and_checked(service: Service, objects: ObjectStore):
    """And what it lacks is found."""
    with service.worker():
        model = service.client.post("/adapt", json=large_task(4)).json()["id"]
    to = service.folder / "backup"
    assert (
        typed(service, "backup", str(to))[0] == typed(service, "check", str(to))[0] == typed(service, "check")[0] == 0
    )
    (key,) = objects.keys("states")
    assert LocalObjects(to / "objects").get(key) == objects.get(key)
    objects.delete(key)
    code, said = typed(service, "check")
    assert code == 1 and f"{key}: it is not in the store" in said
    assert service.client.delete(f"/v1/adapted-models/{model}").status_code == 200
    assert typed(service, "check")[0] == 0, "nobody needs it any more"


def typed(service: Service, *words: str) -> tuple[int, str]:
    """The exit code of an operator's command, and what it prints."""
    environ = {**os.environ, **service.environ}
    done = subprocess.run([*PYTHON, "workers", *words], cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_bucket_that_is_away_loses_nothing(service: Service, objects: ObjectStore):
    """What is adapted meanwhile is kept and done later; an upload is refused, and may be sent again."""
    client = service.client
    with service.worker():
        small = client.post("/adapt", json=large_task(2)).json()["id"]
        service.bucket.stop()
        service.until(lambda: service.store() == "away")
        assert client.get("/readyz").status_code == 200 and client.get("/readyz").json()["status"] == "degraded"
        assert predicted(client, small), "the worker has it in memory"
        waiting = client.post("/adapt", json=large_task(3), headers={"Prefer": "respond-async"}).json()["id"]
        refused = upload(client, vectors(), "vectors.npz", name="sent-again")
        assert_problem(refused, 503)
        shown = f"/v1/adapted-models/{waiting}"
        assert client.get(shown).json()["status"] in ("queued", "running")
        service.bucket.start()
        service.until(lambda: client.get(shown).json()["status"] == "succeeded")
        service.until(lambda: service.store() == "up")
        assert predicted(client, waiting) and len(objects.keys("states")) == 2
        assert upload(client, vectors(), "vectors.npz", name="sent-again").status_code == 201
