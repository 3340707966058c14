"""Data sets in the console: uploaded with progress, looked at, deleted."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import settle
from tests.console.conftest import Visit, Watch
from tests.console.managing import assert_for_everyone, confirm, ended, pictures, signals, start_job, upload
from tests.console.playground import take_picture

pytestmark = pytest.mark.flow
_TELL = """() => {
  const place = document.getElementById("dataset-progress");
  const all = {childList: true, subtree: true, characterData: true};
  new MutationObserver(() => said(place.textContent)).observe(place, all);
}"""


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page_url, timeout=60) as opened:
        yield opened


def choose(page: Page, name: str, data: bytes) -> None:
    """Open the form, and choose a file in it."""
    settle(page)
    adding = page.locator("#add")
    if adding.get_attribute("open") is None:
        adding.locator("> summary").click()
    page.get_by_label("File").set_input_files({"name": name, "mimeType": "application/zip", "buffer": data})


def test_pictures_are_uploaded_with_progress_and_shown(page_url: str, visit: Visit) -> None:
    said: list[str] = []
    page = visit(f"{page_url}/datasets")
    page.expose_function("said", lambda line: said.append(line))
    page.evaluate(_TELL)
    choose(page, "Symbols of mine.zip", pictures())
    assert_for_everyone(page)
    page.get_by_role("button", name="Add it").click()
    page.wait_for_url("**/datasets/ds_*")
    assert any(" sent" in line for line in said) and any("read through" in line for line in said), said
    expect(page.get_by_role("heading", level=1)).to_have_text("symbols-of-mine")
    settle(page)
    thumbnails = page.get_by_role("img", name="An example of symbol-")
    expect(thumbnails).to_have_count(24)
    assert thumbnails.first.evaluate("picture => picture.complete && picture.naturalWidth") == 96
    expect(page.get_by_role("table", name="Examples of each class").get_by_role("row")).to_have_count(7)
    take_picture(page, "dataset")
    assert_for_everyone(page)


def test_what_is_wrong_with_a_file_is_said_at_its_field(page_url: str, visit: Visit, watch: Watch) -> None:
    watch.allowed = {422}
    page = visit(f"{page_url}/datasets")
    choose(page, "broken.csv", b"text;label\nsome;thing\n")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_label("File")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_contain_text("commas")
    assert_for_everyone(page)


def test_one_that_is_in_use_is_not_deleted_and_the_reason_is_shown(
    page_url: str, client: httpx.Client, visit: Visit, watch: Watch
) -> None:
    watch.allowed = {409}
    dataset = upload(client, "deleted-signals", signals())
    job = start_job(client, dataset=dataset, name="deleted-signals", steps=100_000)
    page = visit(f"{page_url}/datasets/{dataset}")
    settle(page)
    expect(page.get_by_role("table", name="Some of its vectors")).to_contain_text("signal-00")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(job)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    client.post(f"/v1/training-jobs/{job}/cancel")
    ended(client, job)
    page.get_by_role("button", name="Delete …").click()
    confirm(page, "Delete it")
    page.wait_for_url("**/datasets")
    settle(page)
    expect(page.get_by_role("link", name="deleted-signals")).to_have_count(0)
