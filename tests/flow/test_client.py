"""Every call of both Python clients, against the real service with keys."""

import io
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kshot.client import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    Unauthenticated,
    WaitTimedOut,
)
from kshot.contracts.checkpoints import VectorInput
from tests.flow.conftest import HttpStack
from tests.flow.dataset_calls import a_name
from tests.flow.http_stack import ADMIN_KEY, drawing_file, vector_task
from tests.flow.test_http_promotions import publish
from tests.kshot.client.both import KINDS, closed, got, listed
from tests.kshot.training.test_gate import IDENTITY, checkpoint

pytestmark = pytest.mark.flow

TEXTS, LABELS = ["where is my card", "card has not come", "I want a refund", "money back"], ["a", "a", "r", "r"]
Three = tuple[str, list[str]]


@pytest.fixture(params=KINDS)
async def admin_client(request: pytest.FixtureRequest, http_stack: HttpStack) -> AsyncIterator[Any]:
    client = request.param(http_stack.api.url, ADMIN_KEY)
    yield client
    await closed(client)


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, http_stack: HttpStack) -> AsyncIterator[Any]:
    """Of a tenant of the test's own."""
    made = request.param(http_stack.api.url, http_stack.key(a_name()[:40])["key"])
    yield made
    await closed(made)


def vectors(seed: int = 0) -> tuple[np.ndarray, list[str]]:
    support = vector_task(seed)["support"]
    return np.array(support["inputs"]), support["labels"]


@contextmanager
def stopped_worker(stack: HttpStack) -> Iterator[None]:
    os.kill(stack.worker_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.worker_pid, signal.SIGCONT)


async def test_texts_are_learned_and_answered(client: Any):
    model = await got(client.adapt("words", TEXTS, LABELS, query=TEXTS[:1], metadata={"for": "a test"}))
    assert (model.status, model.classes, model.metadata) == ("succeeded", ["a", "r"], {"for": "a test"})
    assert model.quality.method == "leave_one_out" and model.predictions[0]["label"] == "a"
    answer = await got(model.predict(TEXTS))
    assert answer.labels == LABELS and answer.model == model.id
    assert all(sum(row.values()) == pytest.approx(1) for row in answer.probabilities)
    same = await got(client.adapt("words", TEXTS, LABELS))
    assert same.id == model.id


async def test_options_reach_the_service(client: Any):
    inputs, labels = vectors()
    model = await got(client.adapt("plain", inputs, labels, options={"learner": "protonet"}, ttl_seconds=100))
    assert model.learner == "protonet" and (model.expires_at - model.created_at).total_seconds() <= 101
    answer = await got(model.predict(inputs, wanted=["logits", "nearest"], top_k=1))
    assert {"logits", "nearest"} <= set(answer.predictions[0]) and answer.nearest[0][0]["label"] == "left"
    unsure = await got(model.predict(np.zeros((1, 4)), reject_below=0.999))
    assert unsure.labels == [None]
    with pytest.raises(Invalid, match="ridge") as raised:
        await got(client.adapt("plain", inputs, labels, options={"learner": "nonsense"}))
    assert raised.value.param == "options.learner" and raised.value.request_id.startswith("req_")


async def test_vectors_answer_the_same_in_every_form(client: Any):
    inputs, labels = vectors()
    model = await got(client.adapt("plain", inputs, labels))
    for form in (inputs, inputs.tolist(), list(inputs), pd.DataFrame(inputs)):
        assert (await got(client.adapt("plain", form, pd.Series(labels)))).id == model.id
        assert (await got(model.predict(form))).labels == labels


async def test_pictures_answer_the_same_in_every_form(client: Any, tmp_path: Path):
    files = [drawing_file(seed) for seed in range(4)]
    images = [Image.open(io.BytesIO(file)) for file in files]
    model = await got(client.adapt("drawings", files, ["a", "a", "b", "b"]))
    (tmp_path / "0.png").write_bytes(files[0])
    first = (await got(model.predict(files[:1]))).predictions
    for form in (images[:1], [tmp_path / "0.png"], [np.asarray(images[0])], np.asarray(images[0])[None]):
        assert (await got(model.predict(form))).predictions == first


async def test_numbers_come_with_their_deviations(client: Any):
    inputs = np.linspace(-1, 1, 8)[:, None] * np.ones(4)
    model = await got(client.adapt("plain", inputs, 2 * inputs[:, 0] + 1))
    answer = await got(model.predict(inputs[:2]))
    assert model.task == "regression" and answer.labels == [None, None]
    assert answer.values == pytest.approx([-1, -0.43], abs=0.2) and all(std >= 0 for std in answer.stds)


async def test_labels_may_have_several_targets(client: Any):
    inputs, labels = vectors()
    joint = [{"side": label, "first": float(row[0])} for label, row in zip(labels, inputs, strict=True)]
    model = await got(client.adapt("plain", inputs, [*joint[:-1], {"side": "right", "first": None}]))
    assert model.task == "multitask" and {target.name for target in model.targets} == {"side", "first"}
    assert (await got(model.predict(inputs[:1]))).predictions[0]["targets"]["side"]["label"] == "left"


async def test_one_call_adapts_and_answers(client: Any):
    inputs, labels = vectors()
    answer = await got(client.predict("plain", inputs, labels, inputs[:2]))
    assert (answer.labels, answer.model) == (["left", "left"], None)


async def test_examples_are_added(client: Any):
    inputs, labels = vectors()
    model = await got(client.adapt("plain", inputs, labels))
    more = await got(model.add_examples(inputs[:2] + 100, ["far", "far"], query=inputs[:1] + 100))
    assert (more.parent_id, more.classes, more.n_support) == (model.id, ["left", "right", "far"], 8)
    assert more.predictions[0]["label"] == "far" and type(more) is type(model)


async def test_a_model_is_found_changed_and_deleted(client: Any):
    inputs, labels = vectors()
    model = await got(client.adapt("plain", inputs, labels))
    found = await got(client.model(model.id))
    assert (found.id, found.created_at) == (model.id, model.created_at)
    assert (await got(model.pin())).pinned and (await got(model.refresh())).expires_at is None
    changed = await got(model.change(pinned=False, ttl_seconds=50, metadata={"n": 1}, follow=True))
    assert (changed.pinned, changed.metadata, changed.follow) == (False, {"n": 1}, True)
    assert [revision.outcome for revision in await listed(model.history())] == ["made"]
    assert [one.id for one in await listed(client.models())] == [model.id]
    await got(model.delete())
    assert await listed(client.models()) == []
    with pytest.raises(NotFound):
        await got(model.predict(inputs))


async def test_feedback_is_counted(client: Any):
    inputs, labels = vectors()
    model = await got(client.adapt("plain", inputs, labels))
    answer = await got(model.predict(inputs, store=True))
    told = await got(model.feedback([*labels[:-1], None], prediction=answer.id))
    assert (told.n, told.correct) == (5, 5)
    for more in (inputs[:2], inputs[:2].tolist()):
        assert (await got(model.feedback(labels[:2], more))).n == 2
    words = await got(client.adapt("words", TEXTS, LABELS))
    assert (await got(words.feedback(LABELS[:1], TEXTS[:1]))).n == 1
    assert (await got(model.refresh())).observed.accuracy == 1


async def test_a_model_whose_worker_stands_still_is_waited_for(client: Any, http_stack: HttpStack):
    with stopped_worker(http_stack):
        model = await got(client.adapt("plain", *vectors(), wait=0))
        assert model.status == "queued"
        with pytest.raises(WaitTimedOut):
            await got(model.wait(timeout=1))
    assert (await got(model.wait())).status == "succeeded"


async def test_access_and_limits(client: Any, http_stack: HttpStack):
    with pytest.raises(Forbidden) as raised:
        await listed(client.keys())
    assert raised.value.remedy is not None and "admin key" in raised.value.remedy
    stranger = type(client)(http_stack.api.url, "ksk_nobody")
    with pytest.raises(Unauthenticated):
        await got(stranger.limits())
    assert (await got(stranger.readiness())).parts.workers >= 1
    await closed(stranger)
    assert (await got(client.limits())).max_ways == 200
    assert (await got(client.set_recording(True, retention_days=7))).retention_days == 7
    assert (await got(client.set_recording(False))).enabled is False
    assert (await got(client.recording())).enabled is False


async def test_keys_are_made_listed_and_revoked(admin_client: Any, http_stack: HttpStack):
    key = await got(admin_client.create_key("mine", tenant=a_name()[:40], expires_in_seconds=1000))
    own = type(admin_client)(http_stack.api.url, key.key)
    assert (await got(own.limits())).max_ways == 200
    assert key.id in [one.id for one in await listed(admin_client.keys())]
    after = await got(admin_client.rotate_key(key.id, grace_seconds=60, expires_in_seconds=500))
    assert after.replaces == key.id and (await got(own.limits())).max_ways == 200
    await got(admin_client.revoke_key(key.id))
    with pytest.raises(Unauthenticated):
        await got(own.limits())
    await closed(own)


async def test_tenants_have_quotas_and_the_audit_log_tells_of_them(admin_client: Any):
    name = a_name()[:40]
    key = await got(admin_client.create_key("mine", tenant=name))
    assert (await got(admin_client.set_quotas(name, adapted_models=0))).own_quotas.adapted_models == 0
    own = type(admin_client)(admin_client.url, key.key, retries=3)
    assert (await got(own.usage())).quotas.adapted_models == 0
    with pytest.raises(QuotaExceeded, match="adapted_models") as refused:
        await got(own.adapt("plain", [[0.0, 1.0], [1.0, 0.0]], ["a", "b"]))
    assert refused.value.remedy is not None and "usage()" in refused.value.remedy
    await closed(own)
    tenant = next(one for one in await listed(admin_client.tenants()) if one.name == name)
    assert (await got(admin_client.tenant(tenant.id))).usage.used.adapted_models == 0
    told = await listed(admin_client.audit(subject=tenant.id, since=tenant.created_at))
    assert [entry.action for entry in told] == ["quotas.set"]


async def test_the_environment_says_where_and_who(admin_client: Any, http_stack: HttpStack, monkeypatch: Any):
    monkeypatch.setenv("KSHOT_URL", http_stack.api.url + "/")
    monkeypatch.setenv("KSHOT_KEY", ADMIN_KEY)
    usual = type(admin_client)()
    assert (await got(usual.system())).queue.queued >= 0 and http_stack.api.url in repr(usual)
    await closed(usual)


@pytest.fixture(scope="module")
def names(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> list[Three]:
    plain = checkpoint(VectorInput(), IDENTITY)
    return publish(http_stack, tmp_path_factory.mktemp("registry"), *[[plain, plain, plain]] * 2)


async def test_aliases_move_forth_and_back(admin_client: Any, names: list[Three]):
    name, (first, second, third) = names.pop()
    assert [one.id for one in await listed(admin_client.checkpoints(name=name))] == [third, second, first]
    assert (await got(admin_client.checkpoint(name))).aliases == [f"{name}@production"]
    candidate = f"{name}@candidate"
    assert (await got(admin_client.promote(candidate, first))).version == 1
    with pytest.raises(PreconditionFailed):
        await got(admin_client.promote(candidate, second, version=7))
    assert (await got(admin_client.promote(candidate, second, version=1))).checkpoint == second
    assert (await got(admin_client.roll_back(candidate))).checkpoint == first
    with pytest.raises(Conflict, match="nothing to roll back"):
        await got(admin_client.roll_back(candidate))
    assert (await got(admin_client.roll_back(candidate, to=2))).checkpoint == second
    reasons = [change.reason for change in await listed(admin_client.alias_history(candidate))]
    assert reasons == ["rollback", "rollback", "set", "set"]
    assert candidate in [f"{one.name}@{one.alias}" for one in await listed(admin_client.aliases())]
    assert (await got(admin_client.alias(candidate))).checkpoint == second
    with pytest.raises(Invalid, match="data set"):
        await got(admin_client.promote(name, first))
    assert (await got(admin_client.promote(name, first, force=True))).checkpoint == first
    with pytest.raises(Conflict):
        await got(admin_client.delete_checkpoint(second))


async def test_data_sets_are_uploaded(admin_client: Any, tmp_path: Path):
    rows = "".join(f"words of class {k} number {i},class{k}\n" for k in range(6) for i in range(5))
    file = tmp_path / "texts.csv"
    file.write_text(f"text,label\n{rows}")
    splits = {"train": ["class0", "class1"], "valid": ["class2", "class3"], "test": ["class4", "class5"]}
    made = await got(admin_client.upload_dataset(file, a_name(), description="words", splits=splits))
    assert (made.format, made.n_examples, made.description) == ("text_csv", 30, "words")
    again = await got(admin_client.upload_dataset(file.read_bytes(), a_name(), filename="x.csv", format="text_csv"))
    assert again.sha256 == made.sha256
    assert (await got(admin_client.dataset(made.name))).splits == splits
    assert len((await got(admin_client.dataset_samples(made.id, limit=3))).data) == 3
    with pytest.raises(Conflict):
        await got(admin_client.upload_dataset(file, made.name))
    with pytest.raises(Invalid, match="zip it"):
        await got(admin_client.upload_dataset(tmp_path, a_name()))
    await got(admin_client.delete_dataset(made.id))
    listing = [one.id for one in await listed(admin_client.datasets())]
    assert again.id in listing and made.id not in listing
