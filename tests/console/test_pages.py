"""Every page of the console as axe, a keyboard and a phone find it, on the service as `make serve` runs it."""

import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from service.console.pages import PAGES
from tests.console.browser import (
    DESKTOP,
    PHONE,
    assert_accessible,
    assert_fits,
    assert_keyboard_reaches_all,
    settle,
)
from tests.console.conftest import Visit, Watch

pytestmark = pytest.mark.flow
TEXTS = "text,label\n" + "".join(f"how do I {verb} number {i},{verb}\n" for verb in "abcdefghij" for i in range(4))
FOLLOW = """
async (path) => {
  const { follow } = await import("/static/events.js");
  const ids = [];
  try {
    await follow(path, (event) => ids.push(Number(event.id)));
    return { ids, status: null };
  } catch (problem) {
    return { ids, status: problem.status };
  }
}
"""


@pytest.fixture(scope="module")
def things(page_url: str) -> Iterator[dict[str, str]]:
    """Module of a page -> what its address names: something that is really there."""
    with httpx.Client(base_url=page_url, timeout=60) as client:
        files = {"file": ("verbs.csv", TEXTS.encode(), "text/csv")}
        made = client.post("/v1/datasets", data={"request": '{"name": "verbs"}'}, files=files)
        assert made.status_code == 201, made.text
        started = client.post("/v1/training-jobs", json={"dataset": "verbs", "name": "verbs"})
        assert started.status_code == 201, started.text
        job = started.json()["id"]
        client.post(f"/v1/training-jobs/{job}/cancel")
        _wait_until_ended(client, job)
        yield {"job": job, "dataset": made.json()["id"], "checkpoint": "intents"}


def _wait_until_ended(client: httpx.Client, job: str) -> None:
    deadline = time.monotonic() + 120
    while client.get(f"/v1/training-jobs/{job}").json()["status"] != "cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("page_of", PAGES, ids=lambda page: page.module)
def test_every_page_is_for_everyone(page_of, page_url: str, things: dict[str, str], visit: Visit) -> None:  # type: ignore[no-untyped-def]
    page = visit(page_url + page_of.path.format(id=things.get(page_of.module)))
    settle(page)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    current = page.get_by_role("navigation", name="Main").locator("[aria-current=page]")
    assert current.get_attribute("href") == page_of.section
    for scheme, size in (("light", DESKTOP), ("dark", DESKTOP), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        assert_accessible(page)
        assert_fits(page)
    assert_keyboard_reaches_all(page)


def test_the_skip_link_leads_past_the_navigation(page_url: str, visit: Visit) -> None:
    page = visit(f"{page_url}/checkpoints")
    settle(page)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_document_of_the_api_is_browsable_offline(page_url: str, visit: Visit) -> None:
    """Everything comes from the service itself; a call can be tried."""
    page = visit(f"{page_url}/docs")
    hosts = []
    page.on("request", lambda request: hosts.append(request.url))
    page.reload()
    assert_fits(page)
    assert_accessible(page, but="#swagger")
    page.locator("#operations-health-healthz_healthz_get").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
    assert [url for url in hosts if not url.startswith((page_url, "data:"))] == []


def test_events_are_followed_to_their_end_each_once(
    page_url: str, things: dict[str, str], visit: Visit, watch: Watch
) -> None:
    """The stream of a job that has ended closes; asked again from the last event on, the server says that is all."""
    path = f"/v1/training-jobs/{things['job']}/events"
    told = [event["seq"] for event in httpx.get(f"{page_url}{path}", params={"limit": 100}).json()["data"]]
    page = visit(f"{page_url}/sign-in")
    assert told and page.evaluate(FOLLOW, path) == {"ids": sorted(told), "status": None}
    watch.allowed = {404}
    missing = path.replace(things["job"], "job_01J00000000000000000000000")
    assert page.evaluate(FOLLOW, missing) == {"ids": [], "status": 404}
