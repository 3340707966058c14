"""Both clients against a real server that drops connections, refuses, and breaks its streams."""

from typing import Any

import orjson
import pytest

from kshot.client import Invalid, KshotError, Unauthenticated, Unreachable, WaitTimedOut, WorseThanIncumbent
from kshot.contracts.job_bodies import TrainingEvent
from tests.kshot.client.both import KINDS, closed, got, listed
from tests.kshot.client.scripted_server import DROP, Reply, scripted_server

NOW = "2026-01-01T00:00:00Z"
MODEL = {"id": "am_1", "status": "succeeded", "checkpoint": None, "learner": "ridge", "task": "classification",
         "classes": ["a"], "k_shot": {}, "n_support": 1, "created_at": NOW, "expires_at": None}  # fmt: skip
JOB = {"id": "job_1", "name": "j", "status": "running", "phase": "training", "dataset": "ds_1", "base_checkpoint": None,
       "request": {}, "recipe": {}, "progress": {"step": 1, "total": None}, "saved_step": 0, "steps_per_s": None,
       "time_budget": None, "estimated_finish": None, "attempt": 1, "heartbeat_at": None, "error": None,
       "checkpoint": None, "created_at": NOW, "started_at": None, "finished_at": None}  # fmt: skip


def ok(body: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(body))


def problem(status: int, code: str, detail: str = "what is wrong", **more: Any) -> Reply:
    headers = more.pop("headers", {})
    body = {
        "type": "urn",
        "title": "t",
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": "req_1",
        **more,
    }
    return Reply(status, orjson.dumps(body), headers)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_survives_what_passes(kind: Any):
    replies = [problem(503, "unavailable"), DROP, problem(429, "rate_limited"), ok(JOB, 201)]
    with scripted_server(*replies) as server:
        client = kind(server.url, "a key")
        assert (await got(client.train("waves", "j", steps=5))).id == "job_1"
        await closed(client)
    assert len(server.heard) == 4
    assert len({heard.headers["Idempotency-Key"] for heard in server.heard}) == 1
    assert len({heard.body for heard in server.heard}) == 1
    assert {heard.headers["Authorization"] for heard in server.heard} == {"Bearer a key"}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upload_is_read_again_for_each_attempt(kind: Any, tmp_path: Any):
    file = tmp_path / "texts.csv"
    file.write_text("text,label\n" * 1000)
    with scripted_server(DROP, problem(503, "unavailable"), problem(422, "invalid", param="file")) as server:
        client = kind(server.url)
        with pytest.raises(Invalid) as raised:
            await got(client.upload_dataset(file, "texts"))
        await closed(client)
    assert raised.value.param == "file"
    assert [heard.body.count(b"text,label\n") for heard in server.heard] == [1000] * 3
    assert all(b'filename="texts.csv"' in heard.body and b'{"name":"texts"}' in heard.body for heard in server.heard)


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_say_what_the_service_said(kind: Any):
    faults = [{"param": "a", "message": "b"}, {"param": "c", "message": "d"}]
    with scripted_server(
        problem(422, "invalid", "too short", param="support.labels", errors=faults),
        problem(401, "unauthenticated"),
        problem(409, "worse_than_incumbent", headers={"Location": "/v1/promotions/pro_1"}),
        problem(418, "brewing"),
        Reply(404, b"<html>a proxy's page</html>"),
    ) as server:
        client = kind(server.url)
        with pytest.raises(Invalid, match="too short") as invalid:
            await got(client.limits())
        assert (invalid.value.param, invalid.value.request_id, invalid.value.status) == ("support.labels", "req_1", 422)
        assert [item.param for item in invalid.value.items] == ["a", "c"]
        assert "field: support.labels" in invalid.value.__notes__ and "request: req_1" in invalid.value.__notes__
        with pytest.raises(Unauthenticated) as unknown:
            await got(client.limits())
        assert unknown.value.remedy is not None and "KSHOT_KEY" in unknown.value.remedy
        with pytest.raises(WorseThanIncumbent) as worse:
            await got(client.limits())
        assert worse.value.promotion == "pro_1"
        for code in ("brewing", "http_404"):
            with pytest.raises(KshotError) as other:
                await got(client.limits())
            assert other.value.code == code
        await closed(client)


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_listens(kind: Any):
    with scripted_server(Reply()) as server:
        pass
    client = kind(server.url, retries=1)
    with pytest.raises(Unreachable) as raised:
        await got(client.limits())
    assert raised.value.remedy is not None and "make serve" in raised.value.remedy and server.url in str(raised.value)
    await closed(client)


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_says_how_it_is_spoken_to(kind: Any):
    with pytest.raises(Invalid, match="expected http://") as raised:
        kind("localhost:8000")
    assert raised.value.param == "url"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_does_not_come_ends_with_the_timeout(kind: Any):
    with scripted_server(Reply(body=b"{", broken=True)) as server:
        client = kind(server.url, retries=0)
        with pytest.raises(Unreachable):
            await got(client.limits())
        await closed(client)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_that_is_not_there_yet_is_waited_for(kind: Any):
    pending, running = {**MODEL, "status": "queued"}, {**MODEL, "status": "running"}
    with scripted_server(ok(pending, 202), ok(running), DROP, ok(MODEL)) as server:
        client = kind(server.url)
        model = await got(client.adapt("intents", ["a"], ["b"]))
        await closed(client)
    assert model.status == "succeeded"
    assert server.heard[0].headers["Prefer"] == "wait=20"
    assert [heard.path for heard in server.heard[1:]] == ["/v1/adapted-models/am_1?wait=20"] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_waiting_ends_where_it_is_told_to(kind: Any):
    pending = {**MODEL, "status": "queued"}
    with scripted_server(ok(pending, 202), ok(pending)) as server:
        client = kind(server.url)
        model = await got(client.adapt("intents", ["a"], ["b"], wait=0))
        assert (model.status, server.heard[0].headers["Prefer"]) == ("queued", "respond-async")
        with pytest.raises(WaitTimedOut, match="am_1") as raised:
            await got(model.wait(timeout=0.5))
        assert raised.value.remedy is not None and "am_1" in raised.value.remedy
        await closed(client)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_made_is_raised_as_what_it_failed_of(kind: Any):
    failed = {**MODEL, "status": "failed", "error": {"code": "adaptation_failed", "message": "diverged", "param": None}}
    with scripted_server(ok({**MODEL, "status": "queued"}, 202), ok(failed)) as server:
        client = kind(server.url)
        with pytest.raises(KshotError, match="diverged") as raised:
            await got(client.adapt("intents", ["a"], ["b"]))
        await closed(client)
    assert raised.value.code == "adaptation_failed"


def event(seq: int, kind: str = "step") -> bytes:
    told = TrainingEvent.model_validate({"seq": seq, "at": NOW, "attempt": 1, "kind": kind, "data": {"a": "\u2028"}})
    return f"id: {seq}\nevent: {kind}\ndata: {told.model_dump_json()}\n\n".encode()


@pytest.mark.parametrize("kind", KINDS)
async def test_events_go_on_after_the_last_one_that_came(kind: Any):
    stream = {"Content-Type": "text/event-stream"}
    first = Reply(200, b": keep-alive\n\n" + event(1) + event(2) + event(3)[:20], stream, broken=True)
    second = Reply(200, event(3) + event(4, "succeeded"), stream)
    with scripted_server(ok(JOB), first, problem(503, "unavailable"), second, Reply(204, b"")) as server:
        client = kind(server.url)
        job = await got(client.job("job_1"))
        events = await listed(job.events())
        await closed(client)
    assert [told.seq for told in events] == [1, 2, 3, 4]
    assert events[-1].kind == "succeeded" and events[0].data == {"a": "\u2028"}
    assert [heard.headers["Last-Event-ID"] for heard in server.heard[1:]] == ["0", "2", "2", "4"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_iterator_that_is_left_gives_its_connection_back(kind: Any):
    stream = {"Content-Type": "text/event-stream"}
    with scripted_server(ok(JOB), Reply(200, event(1) + event(2), stream, broken=True), ok(JOB)) as server:
        client = kind(server.url)
        events = (await got(client.job("job_1"))).events()
        if hasattr(events, "__aiter__"):
            assert (await anext(events)).seq == 1
            await events.aclose()
        else:
            assert next(events).seq == 1
            events.close()
        assert (await got(client.job("job_1"))).id == "job_1"
        await closed(client)


@pytest.mark.parametrize("kind", KINDS)
async def test_lists_go_on_over_their_pages(kind: Any):
    def page(first: int, last: int) -> Reply:
        data = [{**MODEL, "id": f"am_{i}"} for i in range(first, last)]
        return ok({"object": "list", "data": data, "has_more": last < 5, "first_id": "", "last_id": f"am_{last - 1}"})

    with scripted_server(page(0, 2), DROP, page(2, 4), page(4, 5)) as server:
        client = kind(server.url)
        assert [model.id for model in await listed(client.models())] == [f"am_{i}" for i in range(5)]
        await closed(client)
    asked = [heard.path.partition("?")[2] for heard in server.heard]
    assert asked == ["limit=100", "limit=100&after=am_1", "limit=100&after=am_1", "limit=100&after=am_3"]


@pytest.mark.parametrize("kind", KINDS)
async def test_long_waits_show_how_far_they_are(
    kind: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    (tmp_path / "texts.csv").write_text("text,label\n" * 1000)
    with scripted_server(problem(422, "invalid")) as server:
        for progress in (True, False):
            client = kind(server.url, progress=progress)
            with pytest.raises(Invalid):
                await got(client.upload_dataset(tmp_path / "texts.csv", "texts"))
            await closed(client)
            shown = capsys.readouterr()
            assert ("uploading texts.csv" in shown.err and "100%" in shown.err) == progress and not shown.out


@pytest.mark.parametrize("kind", KINDS)
async def test_fields_of_a_newer_service_are_left_out(kind: Any):
    quality = {"method": "leave_one_out", "n": 3, "reliable": False, "charm": 1}
    with scripted_server(ok({**MODEL, "quality": quality, "colour": "blue"})) as server:
        client = kind(server.url)
        assert (await got(client.model("am_1"))).quality.n == 3
        await got(client.model("../keys"))
        await closed(client)
    assert server.heard[-1].path == "/v1/adapted-models/..%2Fkeys"
