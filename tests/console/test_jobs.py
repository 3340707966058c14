"""Jobs in the console: started from the form, watched, paused, resumed, cancelled."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import settle
from tests.console.conftest import Visit, Watch
from tests.console.managing import assert_for_everyone, confirm, signals, upload
from tests.console.playground import take_picture

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page_url, timeout=60) as opened:
        yield opened


def points(page: Page) -> int:
    """How many losses the curve is drawn from."""
    return int(page.locator("[data-points]").get_attribute("data-points") or 0)


def test_a_job_is_started_from_the_form_its_curve_moves_and_it_can_be_steered(page_url: str, visit: Visit) -> None:
    page = visit(f"{page_url}/datasets")
    settle(page)
    adding = page.locator("#add")
    if adding.get_attribute("open") is None:
        adding.locator("> summary").click()
    page.get_by_label("File").set_input_files({"name": "Some signals.csv", "mimeType": "text/csv", "buffer": signals()})
    expect(page.get_by_label("Name", exact=True)).to_have_value("some-signals")
    page.get_by_role("button", name="Add it").click()
    page.get_by_role("link", name="Train on it").click()

    settle(page)
    expect(page.get_by_label("Data set")).to_contain_text("some-signals")
    expect(page.get_by_label("Name of the checkpoint")).to_have_value("some-signals")
    plan = page.locator("#job-plan")
    expect(plan).to_contain_text("mlp")
    page.get_by_label("How long").select_option("steps")
    page.get_by_label("How many steps").fill("200000")
    page.get_by_label("How many steps").blur()
    expect(plan).to_contain_text("200,000 steps")
    take_picture(page, "jobs-form")
    page.get_by_role("button", name="Start the job").click()

    page.wait_for_url("**/jobs/job_*")
    curve = page.get_by_role("img", name="Loss.")
    expect(curve).to_be_visible()
    before, drawn = points(page), curve.locator("path").get_attribute("d") or ""
    expect(page.locator("[data-points]")).not_to_have_attribute("data-points", str(before))
    assert points(page) > before > 0 and curve.locator("path").get_attribute("d") != drawn
    expect(page.get_by_role("img", name="Validation")).to_be_visible()
    expect(page.locator("dl.facts").first).to_contain_text("Time left")
    assert_for_everyone(page)

    status = page.locator("dl.facts .badge").first
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text("running")
    page.get_by_role("button", name="Cancel …").click()
    confirm(page, "Cancel the job")
    expect(status).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.get_by_text("Figures as tables").click()
    expect(page.get_by_role("table", name="Loss by step")).to_be_visible()
    assert_for_everyone(page)

    page.get_by_role("link", name="Jobs").click()
    settle(page)
    page.get_by_label("Show").select_option("cancelled")
    expect(page.get_by_role("row", name="some-signals")).to_contain_text("cancelled")
    assert_for_everyone(page)


def test_what_the_server_refuses_is_said_at_its_field(
    page_url: str, client: httpx.Client, visit: Visit, watch: Watch
) -> None:
    watch.allowed = {422}
    dataset = upload(client, "refused-signals", signals())
    page = visit(f"{page_url}/jobs?dataset={dataset}")
    settle(page)
    name = page.get_by_label("Name of the checkpoint")
    name.fill("No Such Name")
    page.get_by_role("button", name="Start the job").click()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_contain_text("hyphens")
    name.fill("refused")
    page.locator("#job-more > summary").click()
    page.get_by_label("Classes in an episode").fill("900")
    page.get_by_label("Classes in an episode").blur()
    expect(page.locator("#job-plan")).not_to_contain_text("Encoder")
    page.locator("#job-more > summary").click()
    page.get_by_role("button", name="Start the job").click()
    ways = page.get_by_label("Classes in an episode")
    expect(ways).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("ask for at most so many")
    assert_for_everyone(page)
