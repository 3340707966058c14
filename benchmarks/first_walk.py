"""From `git clone` to a first own prediction in the playground: `python -m benchmarks.first_walk` (needs Chromium).

A fresh clone installs itself, `make serve` starts it on an empty data folder, and a real browser draws three symbols
twice each and a seventh drawing. What is measured is what the newcomer waits for: the robot's hand takes no time, and a
person's seven drawings come on top. Goes to `benchmarks/results/first_walk.json` and `.md`.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.report import record

_ROOT = Path(__file__).parents[1]
_START_S = 300
_PATIENCE_MS = 60_000
Stroke = Sequence[tuple[float, float]]
_SYMBOLS: dict[str, list[Stroke]] = {
    "triangle": [[(0.5, 0.15), (0.85, 0.8), (0.15, 0.8), (0.5, 0.15)]],
    "cross": [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
    "zigzag": [[(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]],
}


@dataclass(frozen=True)
class Step:
    """What is done, and the seconds it takes."""

    step: str
    seconds: float


class _Clock:
    def __init__(self) -> None:
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.steps.append(Step(name, round(time.monotonic() - started, 2)))
        print(f"{self.steps[-1].seconds:8.2f} s  {name}", flush=True)


def main() -> None:
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="kshot-walk-") as folder:
        clone = Path(folder) / "kshot"
        with clock.step("git clone"):
            subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(clone)], check=True)
        with clock.step("installing, once: what `make serve` does first (`make .venv/.serve`)"):
            subprocess.run(["make", "--silent", ".venv/.serve"], cwd=clone, check=True)
        with _served(clone, clock) as url:
            _visit(url, clock)
    rest = round(sum(step.seconds for step in clock.steps if not step.step.startswith("installing")), 2)
    total = Step("all but installing, and but for the hand that draws", rest)
    record(Path("benchmarks/results/first_walk"), "From clone to a first own prediction", [*clock.steps, total])


@contextmanager
def _served(clone: Path, clock: _Clock) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = clone.parent / "said"
    environ = os.environ | {"KSHOT_HOME": str(clone.parent / "home"), "KSHOT_PORT": str(port)}
    with said.open("wb") as output:
        service = subprocess.Popen(
            ["make", "serve"], cwd=clone, env=environ, stdout=output, stderr=output, process_group=0
        )
    try:
        with clock.step("make serve, until it says `listening at`"):
            _wait_until_listening(said, service)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(service.pid, signal.SIGINT)  # as Ctrl-C does: to make and to what it runs
        service.wait(timeout=60)


def _wait_until_listening(said: Path, service: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while "listening at" not in said.read_text():
        if service.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service did not start:\n{said.read_text()}")
        time.sleep(0.05)


def _visit(url: str, clock: _Clock) -> None:
    sandbox = [] if os.getuid() else ["--no-sandbox"]
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page()
        with clock.step("open the page, until one can draw"):
            page.goto(url)
            expect(page.locator("#playground")).to_be_visible()
        with clock.step("teach: name three classes, draw two examples of each, until it is adapted"):
            _teach(page)
            expect(page.locator("#quality")).to_contain_text("of 6 ")
        with clock.step("try: a seventh drawing, until the verdict stands"):
            _draw(page, "#query", _SYMBOLS["zigzag"], 0.05)
            expect(page.locator("#verdict")).to_have_text("It is “zigzag”.")
        with clock.step("copy as Python"):
            page.get_by_role("button", name="Copy as Python").click()
            expect(page.get_by_role("dialog")).to_contain_text(re.compile("Copied|Selected"))
        print(page.locator("#timings").inner_text(), flush=True)
        browser.close()


def _teach(page: Page) -> None:
    page.get_by_role("button", name="Add a class").click()
    for place, (name, strokes) in enumerate(_SYMBOLS.items()):
        card = page.locator("#classes .class").nth(place)
        card.get_by_label("Name of the class").fill(name)
        for bend in (0.0, 0.08):
            _draw(page, f"#classes .class:nth-child({place + 1})", strokes, bend)
            card.get_by_role("button", name="Add", exact=True).click()


def _draw(page: Page, where: str, strokes: Sequence[Stroke], bend: float) -> None:
    pad = page.locator(f"{where} canvas")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + (x + bend * y) * box["width"], box["y"] + y * box["height"], steps=4)
            if i == 0:
                page.mouse.down()
        page.mouse.up()


if __name__ == "__main__":
    main()
