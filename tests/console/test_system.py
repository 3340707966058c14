"""The system page: figures that move while one looks, and API keys made and revoked."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.browser import settle
from tests.console.conftest import Visit
from tests.console.managing import assert_for_everyone, confirm
from tests.console.playground import take_picture
from tests.console.test_sign_in import sign_in
from tests.flow.http_stack import ADMIN_KEY, HttpStack, vector_task

pytestmark = pytest.mark.flow
NOT_FINITE = {
    "checkpoint": "vectors",
    "support": {"inputs": [[1e30, 0], [-1e30, 0], [1e30, 1], [-1e30, 1]], "labels": [1.0, 2.0, 3e30, 4.0]},
}


def test_figures_follow_what_the_workers_do(page_url: str, visit: Visit) -> None:
    page = visit(f"{page_url}/system")
    settle(page)
    workers = page.get_by_role("table", name="Workers and trainers")
    expect(workers).to_contain_text("trainer")
    with httpx.Client(base_url=page_url, timeout=60) as client:
        for seed in range(3):
            assert client.post("/adapt", json=vector_task(seed, checkpoint="vectors")).status_code == 201
        assert client.post("/adapt", json=NOT_FINITE).status_code == 422
    answered = workers.get_by_role("row", name=re.compile("adaptation")).get_by_role("cell").nth(4)
    expect(answered).not_to_have_text("0")
    expect(page.get_by_role("table", name="Errors")).to_contain_text("adaptation_failed")
    expect(page.get_by_role("table", name="Caches")).to_contain_text("adapted models")
    expect(page.locator("main")).to_contain_text(re.compile(r"[1-9]\d* batches, by how many items they held"))
    page.get_by_role("button", name="Refreshing").click()
    expect(page.get_by_role("button", name="Not refreshing")).to_have_attribute("aria-pressed", "false")
    take_picture(page, "system")
    assert_for_everyone(page)


def test_a_key_is_shown_once_works_and_is_revoked(http_stack: HttpStack, visit: Visit) -> None:
    url = http_stack.api.url
    page = visit(f"{url}/sign-in?next=/system", permissions=["clipboard-read", "clipboard-write"])
    sign_in(page, ADMIN_KEY)
    page.wait_for_url("**/system")
    settle(page)
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name", exact=True).fill("from the console")
    page.get_by_label("Tenant").fill("console-keys")
    page.get_by_role("dialog").get_by_role("button", name="Make it").click()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("dialog")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert_for_everyone(page)
    page.get_by_role("button", name="I have kept it").click()
    row = page.get_by_role("row", name="from the console")
    expect(row).to_contain_text("console-keys")
    assert secret not in page.content()
    with http_stack.api.client(secret) as client:
        assert client.get("/v1/limits").status_code == 200
        row.get_by_role("button", name="Revoke").click()
        confirm(page, "Revoke it")
        expect(row).to_contain_text("revoked")
        assert client.get("/v1/limits").status_code == 401
