"""What administrators see of the installation: figures, metrics, examples of data sets, lists that are filtered."""

import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kshot.contracts.dataset_bodies import DatasetSamples
from kshot.contracts.job_bodies import TrainingPlan
from kshot.contracts.system_bodies import System
from tests.flow.conftest import HttpStack
from tests.flow.dataset_calls import a_name, upload
from tests.flow.http_stack import assert_problem, drawing_file, vector_task

pytestmark = pytest.mark.flow


def until(check: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def seen(client: httpx.Client) -> System:
    answer = client.get("/v1/system")
    assert answer.status_code == 200, answer.text
    return System.model_validate(answer.json())


def metrics(client: httpx.Client) -> dict[tuple[str, str, str], float]:
    """(name, kind, outcome, tier or what else there is) -> value, summed over workers."""
    found: dict[tuple[str, str, str], float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = sample.labels
            key = (
                sample.name,
                labels.get("kind", labels.get("cache", "")),
                labels.get("outcome", labels.get("le", "")),
            )
            found[key] = found.get(key, 0) + sample.value
    return found


def test_what_was_computed_is_counted_by_whichever_worker_did_it(admin: httpx.Client) -> None:
    before = metrics(admin)
    ok = ("kshot_tasks_total", "adapt", "succeeded")
    answer = admin.post("/adapt", json=vector_task(901, query={"inputs": [[5, 0, 0, 0]]}))
    assert answer.status_code == 201, answer.text
    asked = {"model": answer.json()["id"], "inputs": [[5, 0, 0, 0]]}
    for _ in range(2):
        assert admin.post("/predict", json=asked).status_code == 200
    until(lambda: metrics(admin).get(ok, 0) >= before.get(ok, 0) + 1)  # said with the next heartbeat
    until(lambda: metrics(admin)["kshot_tasks_total", "predict", "succeeded"] >= 2)
    now = metrics(admin)
    assert now["kshot_batches_total", "", ""] >= 3
    assert now["kshot_batch_items_count", "", ""] == now["kshot_batches_total", "", ""]
    assert now["kshot_queue_seconds_count", "adapt", ""] == now["kshot_tasks_total", "adapt", "succeeded"]
    assert now["kshot_cache_hits_total", "states", ""] >= 2
    assert {now["kshot_queue_depth", kind, ""] for kind in ("adapt", "replay", "predict")} == {0}
    assert now["kshot_workers", "adaptation", ""] == 1 and now["kshot_workers", "trainer", ""] == 0
    figures = seen(admin)
    (worker,) = [one for one in figures.workers if one.kind == "adaptation"]
    assert worker.alive and worker.batches >= 3 and worker.succeeded >= 3
    assert sum(one.batches for one in figures.batches) >= 3
    (states,) = [one for one in figures.caches if (one.cache, one.tier) == ("states", "host")]
    assert states.hits >= 2 and states.hit_rate is not None and states.bytes > 0


def test_a_task_that_failed_is_among_the_recent_errors_with_its_model_alone(
    http_stack: HttpStack, admin: httpx.Client
) -> None:
    tenant = http_stack.tenant("failing")
    inputs = [[1e30, 0, 0, 0], [-1e30, 0, 0, 0], [1e30, 0, 0, 1], [-1e30, 0, 0, 1]]
    task = {"checkpoint": "plain", "support": {"inputs": inputs, "labels": [1.0, 2.0, 3e30, 4.0]}}
    assert tenant.post("/adapt", json=task).status_code == 422
    failures = seen(admin).failures
    assert failures and failures[0].of == "task" and failures[0].id.startswith("am_") and failures[0].error.code
    assert metrics(admin)["kshot_failures_recent", "", ""] >= 1


def test_metrics_name_no_tenant_and_follow_the_conventions(admin: httpx.Client) -> None:
    text = admin.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.name.startswith("kshot_") and family.documentation for family in families)
    assert "ten_" not in text and "am_" not in text


def test_examples_of_pictures_are_thumbnails_of_every_class(admin: httpx.Client) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for i in range(12):
            opened.writestr(f"class-{i % 4}/{i}.png", drawing_file(i, size=200))
    made = upload(admin, archive.getvalue(), "some.zip")
    assert made.status_code == 201, made.text
    answer = admin.get(f"/v1/datasets/{made.json()['name']}/samples", params={"limit": 6})
    assert answer.status_code == 200, answer.text
    found = DatasetSamples.model_validate(answer.json())
    assert [one.label for one in found.data] == ["class-0", "class-1", "class-2", "class-3", "class-0", "class-1"]
    assert {one.part for one in found.data} <= {"train", "valid", "test"}
    sizes = admin.get(f"/v1/datasets/{made.json()['id']}").json()["sizes"]
    assert sorted(size for own in sizes.values() for size in own) == [3, 3, 3, 3]
    assert all(one.image is not None and one.image.startswith("data:image/png;base64,") for one in found.data)


def test_what_is_drawn_has_no_examples(admin: httpx.Client) -> None:
    made = admin.post("/v1/datasets", json={"name": a_name(), "source": "sinusoid"}).json()
    assert admin.get(f"/v1/datasets/{made['id']}/samples").json()["data"] == []


def test_lists_can_be_filtered(admin: httpx.Client) -> None:
    dataset = admin.post("/v1/datasets", json={"name": a_name(), "source": "sinusoid"}).json()["id"]
    name = a_name()
    job = admin.post("/v1/training-jobs", json={"dataset": dataset, "name": name, "steps": 5}).json()["id"]

    def ids(path: str, **params: Any) -> list[str]:
        answer = admin.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["data"]]

    assert ids("/v1/training-jobs", name=name) == ids("/v1/training-jobs", dataset=dataset) == [job]
    assert ids("/v1/training-jobs", name=name, status=["queued", "running"]) == [job]
    assert ids("/v1/training-jobs", name=name, status="failed") == []
    admin.post(f"/v1/training-jobs/{job}/cancel")
    assert ids("/v1/training-jobs", name=name, status="cancelled") == [job]
    plain = admin.get("/v1/checkpoints/plain@production").json()["id"]
    assert ids("/v1/checkpoints", name="plain") == [plain]
    assert ids("/v1/promotions", name=name) == []
    assert_problem(admin.get("/v1/training-jobs", params={"status": "asleep"}), 422, param="status[0]")
    assert_problem(admin.get("/v1/checkpoints", params={"name": "No Name"}), 422, param="name")


def test_a_plan_says_what_would_run_and_starts_nothing(admin: httpx.Client) -> None:
    dataset = admin.post("/v1/datasets", json={"name": a_name(), "source": "sinusoid"}).json()["id"]
    name = a_name()
    answer = admin.post("/v1/training-plans", json={"dataset": dataset, "name": name, "steps": 7})
    assert answer.status_code == 200, answer.text
    plan = TrainingPlan.model_validate(answer.json())
    assert plan.recipe["training"]["steps"] == 7 and plan.recipe["learner"]["name"] == "maml"
    assert plan.time_budget is None
    assert admin.get("/v1/training-jobs", params={"name": name}).json()["data"] == []
    refused = admin.post("/v1/training-plans", json={"dataset": dataset, "name": name, "learner": "protonet"})
    assert_problem(refused, 422, param="learner")


def test_figures_are_for_administrators(http_stack: HttpStack) -> None:
    assert_problem(http_stack.tenant("curious").get("/v1/system"), 403)
