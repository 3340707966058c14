"""A real browser on the console: what went wrong on a page, what axe says of it, what a keyboard reaches."""

import shutil
from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Request, Response, expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_MS = 90_000
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
_CONTROLS = (
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0'], [contenteditable='true']"
)
_GOES_ROUND = """
() => {
  const at = document.activeElement;
  const known = window.reached.has(at);
  if (at !== document.body) window.reached.add(at);  // between the last control and the first one
  return known;
}
"""
_UNREACHED = """
controls => {
  const radios = new Set([...window.reached].filter((node) => node.type === "radio").map((node) => node.name));
  return [...document.querySelectorAll(controls)]
    .filter((node) => !node.disabled && !node.closest("[inert], fieldset:disabled") && node.checkVisibility())
    .filter((node) => !window.reached.has(node) && !(node.type === "radio" && radios.has(node.name)))
    .map((node) => node.outerHTML.slice(0, 200));
}
"""


@dataclass
class Watch:
    """Collects a page's faults: console errors, uncaught exceptions, refused and failed requests.

    ``allowed``: statuses that a test provokes.
    """

    allowed: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        """Listen from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("requestfailed", self._on_failed)
        page.on("response", self._on_response)

    def assert_clean(self) -> None:
        """Nothing went wrong so far."""
        assert not self.faults, "\n".join(self.faults)

    def _on_console(self, message: ConsoleMessage) -> None:
        """Chromium's line about a refused request says less than the response itself."""
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console {message.type}: {message.text}")

    def _on_failed(self, request: Request) -> None:
        """Whoever leaves a page breaks off what it was loading."""
        if "ERR_ABORTED" not in (request.failure or ""):
            self.faults.append(f"{request.method} {request.url}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.allowed:
            self.faults.append(f"{response.request.method} {response.url}: {response.status}")


def settle(page: Page) -> None:
    """Wait until the page has shown what it asks the API for."""
    expect(page.locator("main [aria-busy=true]")).to_have_count(0, timeout=PATIENCE_MS)


def assert_accessible(page: Page, *, but: str | None = None) -> None:
    """No rule of axe is violated. ``but``: of a part that is not ours."""
    results = Axe().run(page, context=None if but is None else {"exclude": [[but]]})
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"


def assert_fits(page: Page) -> None:
    """Nothing sticks out to the right: only tables and code scroll, within themselves."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} is {wide} pixels wider than the window"


def assert_keyboard_reaches_all(page: Page) -> None:
    """Tab comes to every visible control (of radio buttons: to one of each group), and to the end of the page."""
    page.evaluate("window.reached = new Set()")
    for _ in range(page.locator(_CONTROLS).count() + 50):
        page.keyboard.press("Tab")
        if page.evaluate(_GOES_ROUND):
            break
    assert not (unreached := page.evaluate(_UNREACHED, _CONTROLS)), "\n".join(unreached)
