"""Chromium on the console of real services: ``page_url`` as `make serve` runs it, ``http_stack`` with keys."""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.console.browser import CHROMIUM, DESKTOP, PATIENCE_MS, Watch


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.flow.stacks")


class Visit(Protocol):
    """Opens a page of its own browser profile. Its faults fail the test at the end."""

    def __call__(self, url: str, **context: Any) -> Page: ...


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one file of tests: while it is there its event loop counts as running, so `asyncio.run` is refused."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sandbox = [] if os.getuid() else ["--no-sandbox"]
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        fake_camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        arguments = [*sandbox, *fake_camera, "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    watching = Watch()
    yield watching
    watching.assert_clean()


@pytest.fixture
def visit(chromium: Browser, watch: Watch) -> Iterator[Visit]:
    """``visit(url, **options of the browser's context)``: a fresh profile, desktop-sized and light by default."""
    contexts = []

    def open_page(url: str, **context: Any) -> Page:
        options = {"viewport": DESKTOP, "color_scheme": "light", "reduced_motion": "reduce", **context}
        contexts.append(chromium.new_context(**options))
        contexts[-1].set_default_timeout(PATIENCE_MS)
        page = contexts[-1].new_page()
        watch.attach(page)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
