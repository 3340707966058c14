"""Checkpoints in the console: compared, promoted with the gate's figures, refused, forced, rolled back."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import settle
from tests.console.conftest import Visit
from tests.console.managing import assert_for_everyone, confirm, ended, signals, start_job, upload
from tests.console.playground import take_picture

pytestmark = pytest.mark.flow
NAME = "promoted-signals"


@pytest.fixture(scope="module")
def made(page_url: str) -> Iterator[tuple[str, str]]:
    """Ids of two checkpoints of one name: hardly trained, and trained on what the first began with."""
    with httpx.Client(base_url=page_url, timeout=60) as client:
        dataset = upload(client, NAME, signals())
        body = {"dataset": dataset, "name": NAME, "encoder": "mlp", "learner": "protonet"}
        rows = [{"n_way": 3, "k_shot": 1, "episodes": 200}]
        first = ended(client, start_job(client, **body, steps=1, evaluate=rows))["checkpoint"]
        more = {"base_checkpoint": first, "steps": 400, "evaluate": rows}
        second = ended(client, start_job(client, **body, **more))["checkpoint"]
        yield first, second


def promote(page: Page, *, force: bool = False) -> None:
    page.get_by_role("button", name="Promote …").click()
    if force:
        page.get_by_label("Force it").check()
        expect(page.get_by_role("dialog")).to_contain_text("may get worse answers")
    confirm(page, "Promote")


def test_a_better_one_is_promoted_a_worse_one_refused_or_forced_and_rolled_back(
    page_url: str, made: tuple[str, str], visit: Visit
) -> None:
    poor, good = made
    page = visit(f"{page_url}/checkpoints/{poor}")
    settle(page)
    promote(page)
    expect(page.locator("main")).to_contain_text("It is in production")

    page.goto(f"{page_url}/checkpoints/{good}")
    settle(page)
    promote(page)
    outcome = page.locator("#promotion")
    expect(outcome).to_contain_text("It does better, and is in production now.")
    expect(outcome.get_by_role("table")).to_contain_text("better")
    history = page.get_by_role("table", name="pointed at")
    expect(history.get_by_role("row")).to_have_count(3)
    take_picture(page, "checkpoint-promoted")
    assert_for_everyone(page)

    page.goto(f"{page_url}/checkpoints/{poor}")
    settle(page)
    promote(page)
    expect(outcome).to_contain_text("Refused")
    expect(outcome.get_by_role("table")).to_contain_text("worse")
    expect(page.locator("main")).to_contain_text(good)
    promote(page, force=True)
    expect(page.locator("main")).to_contain_text("It is in production")

    page.get_by_role("button", name="Roll back …").click()
    confirm(page, "Roll back")
    expect(page.locator("main")).to_contain_text("Promoting compares the two first")
    expect(history.get_by_role("row").nth(1)).to_contain_text("rolled back")
    page.get_by_role("button", name="Figures of version 2").click()
    expect(page.get_by_role("dialog").get_by_role("table")).to_contain_text("better")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Back to version 1 …").click()
    confirm(page, "Roll back")
    expect(page.locator("main")).to_contain_text("It is in production")


def test_two_are_compared_and_their_lineage_is_a_way_to_them(
    page_url: str, made: tuple[str, str], visit: Visit
) -> None:
    poor, good = made
    page = visit(f"{page_url}/checkpoints")
    settle(page)
    page.get_by_label("One", exact=True).select_option(good)
    page.get_by_label("Other", exact=True).select_option(poor)
    difference = page.get_by_role("table", name="Both").get_by_role("row").nth(1).get_by_role("cell").last
    expect(difference).to_contain_text("+")
    expect(page.get_by_role("region", name=f"Checkpoints of {NAME}")).to_contain_text("3-way 1-shot")
    take_picture(page, "checkpoints")
    assert_for_everyone(page)
    page.get_by_role("group", name="Lineage").get_by_role("link", name=f"{NAME} {good[-6:]}").click()
    page.wait_for_url(f"**/checkpoints/{good}")
    settle(page)
    expect(page.locator("dl.facts")).to_contain_text(poor)
    page.locator("dl.facts").get_by_role("link", name="job_").click()
    expect(page.get_by_role("img", name="Validation")).to_be_visible()
    expect(page.get_by_role("link", name="Look at it")).to_be_visible()
    take_picture(page, "job")
