"""Signing in and out of the console, as a person does."""

import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import assert_accessible, assert_fits, assert_keyboard_reaches_all, settle
from tests.console.conftest import Visit, Watch
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import ADMIN_KEY

pytestmark = pytest.mark.flow


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_leads_where_one_wanted_to_go_and_signing_out_back(http_stack: HttpStack, visit: Visit) -> None:
    page = visit(f"{http_stack.api.url}/system?x=1")
    expect(page).to_have_url(f"{http_stack.api.url}/sign-in?next=/system%3Fx%3D1")
    sign_in(page, ADMIN_KEY)
    page.wait_for_url(f"{http_stack.api.url}/system?x=1")
    settle(page)
    expect(page.locator(".account")).to_contain_text("bootstrap")
    assert_accessible(page)
    assert page.evaluate("document.cookie") == "", "scripts do not see the session"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"{http_stack.api.url}/system")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_wrong_key_is_refused_at_its_field(http_stack: HttpStack, visit: Visit, watch: Watch) -> None:
    watch.allowed = {401}
    page = visit(f"{http_stack.api.url}/")
    field = page.get_by_label("API key")
    sign_in(page, "")
    expect(field).to_have_attribute("aria-invalid", "true")
    sign_in(page, "ksk_wrong")
    expect(page.get_by_role("alert")).to_have_text("the API key is unknown, revoked or expired")
    expect(field).to_be_focused()
    described = (field.get_attribute("aria-describedby") or "").split()
    assert page.get_by_role("alert").get_attribute("id") in described and "key-hint" in described
    assert_accessible(page)
    sign_in(page, ADMIN_KEY)
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()


def test_a_session_that_ends_meanwhile_leads_to_the_sign_in_page(
    http_stack: HttpStack, visit: Visit, watch: Watch
) -> None:
    watch.allowed = {401}
    made = http_stack.key("console-revoked", "admin")
    page = visit(f"{http_stack.api.url}/sign-in?next=/checkpoints")
    sign_in(page, made["key"])
    page.wait_for_url(f"{http_stack.api.url}/checkpoints")
    settle(page)
    http_stack.client().delete(f"/v1/api-keys/{made['id']}")
    page.evaluate("() => void import('/static/api.js').then((api) => api.call('GET', '/v1/limits')).catch(() => {})")
    page.wait_for_url("**/sign-in?next=%2Fcheckpoints")


def test_who_is_no_administrator_sees_no_such_pages(http_stack: HttpStack, visit: Visit, watch: Watch) -> None:
    page = visit(f"{http_stack.api.url}/sign-in?next=/checkpoints")
    sign_in(page, http_stack.key("console-user")["key"])
    page.wait_for_url(f"{http_stack.api.url}/checkpoints")
    names = page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()
    assert names == ["Playground", "Checkpoints", "API"]
    settle(page)
    watch.allowed = {403}
    page.goto(f"{http_stack.api.url}/system")
    expect(page.get_by_role("main")).to_contain_text("for administrators")
    assert_accessible(page)


def test_the_sign_in_page_is_for_everyone(http_stack: HttpStack, visit: Visit) -> None:
    page = visit(f"{http_stack.api.url}/sign-in")
    for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 320)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        assert_accessible(page)
        assert_fits(page)
    assert_keyboard_reaches_all(page)


def test_without_keys_nobody_signs_in(page_url: str, visit: Visit) -> None:
    page = visit(f"{page_url}/sign-in?next=/checkpoints")
    expect(page.get_by_role("main")).to_contain_text("no API keys")
    page.get_by_role("link", name="Open the console").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Checkpoints")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
