"""Meta-training from Python, on the whole service as `make serve` runs it."""

import doctest
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

import kshot.client
from kshot.client import Conflict, KshotError, clients, estimators
from tests.flow.dataset_calls import a_name
from tests.kshot.client.both import KINDS, closed, got, listed

pytestmark = pytest.mark.flow
QUICK = {"steps": 20, "meta_batch": 2, "evaluate": []}


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, page_url: str) -> AsyncIterator[Any]:
    made = request.param(page_url)
    yield made
    await closed(made)


async def sinusoids(client: Any) -> str:
    """The name of a data set of its own."""
    return str((await got(client.built_in_dataset(a_name(), "sinusoid"))).name)


async def test_a_job_runs_tells_and_is_promoted(client: Any):
    dataset = await sinusoids(client)
    planned = await got(client.plan(dataset, "waves", learner="reptile", **QUICK))
    job = await got(client.train(dataset, "waves", learner="reptile", **QUICK))
    assert planned.recipe["training"] == job.recipe["training"]
    events = await listed(job.events())
    assert (events[0].kind, events[-1].kind) == ("queued", "succeeded")
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert [event.seq for event in await listed(job.events(after=events[2].seq))] == [e.seq for e in events[3:]]
    assert await listed(job.past_events()) == events
    done = await got(job.wait(timeout=60))
    assert (done.status, done.progress.step, done.recipe["learner"]["name"]) == ("succeeded", 20, "reptile")
    mine = [one.id for one in await listed(client.jobs(status=["succeeded"], name="waves", dataset=job.dataset))]
    assert mine == [job.id] and type(done) is type(job)
    alias = await got(client.promote("waves@candidate", done.checkpoint))
    assert alias.checkpoint == done.checkpoint
    with pytest.raises(Conflict):
        await got(done.cancel())


async def test_a_job_is_paused_resumed_and_cancelled(page_url: str):
    """Awaited; the next one blocks."""
    client = KINDS[1](page_url)
    long = {**QUICK, "steps": 1_000_000}
    job = await got(client.train(await sinusoids(client), "waves", **long))
    await until(job, "step")
    await got(job.pause())
    await until(job, "paused")
    paused = await got(client.job(job.id))
    assert paused.status == "paused" and paused.saved_step > 0
    assert (await got(paused.resume())).status == "queued"
    await got(job.cancel())
    assert (await got(job.wait(timeout=120))).status == "cancelled"
    assert (await listed(job.events()))[-1].kind == "cancelled"
    await closed(client)


async def test_a_promotion_is_compared_and_decided(page_url: str):
    client = KINDS[0](page_url)
    dataset, name = await sinusoids(client), a_name()
    made = [client.train(dataset, name, seed=seed, **QUICK).wait(timeout=300).checkpoint for seed in range(2)]
    assert client.promote(name, made[0]).version == 1
    try:
        decided = client.promote(name, made[1]).checkpoint
    except KshotError as error:
        assert error.code == "worse_than_incumbent" and error.remedy is not None
        decided = made[0]
    (promotion,) = client.promotions(name=name)
    assert promotion.comparison is not None and client.promotion(promotion.id) == promotion
    assert (promotion.status == "promoted") == (decided == made[1]) and client.alias(name).checkpoint == decided
    client.close()


async def until(job: Any, kind: str) -> None:
    """Until such an event has come."""
    async with aclosing(job.events()) as events:
        async for event in events:
            if event.kind == kind:
                return


def test_examples_in_docstrings_are_true(page_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KSHOT_URL", page_url)
    results = [doctest.testmod(module) for module in (kshot.client, clients, estimators)]
    assert all(result.attempted and not result.failed for result in results), results
