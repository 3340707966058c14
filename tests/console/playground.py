"""What a visitor does in the playground, as steps for the tests."""

import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from math import cos, pi, sin
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, Request, expect

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
Stroke = Sequence[tuple[float, float]]
RING: list[Stroke] = [[(0.5 + 0.35 * sin(pi * i / 10), 0.5 - 0.35 * cos(pi * i / 10)) for i in range(21)]]
CROSS: list[Stroke] = [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]]
HOOK: list[Stroke] = [[(0.3, 0.15), (0.3, 0.8), (0.75, 0.8), (0.75, 0.55)]]


def moved(strokes: Iterable[Stroke], by: float) -> list[Stroke]:
    """The same symbol by a hand that is not quite steady: smaller, aside, and bent a little."""
    return [[(0.05 + 0.85 * x + by * y, 0.1 + 0.8 * y + by * x * x) for x, y in stroke] for stroke in strokes]


class Visitor:
    """Somebody at the playground of a page that is open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.posts: list[str] = []
        page.on("request", self._note)
        expect(page.locator("#playground")).to_be_visible()
        self.answer = page.locator("#answer")
        self.verdict = page.locator("#verdict")

    def _note(self, request: Request) -> None:
        if request.method == "POST":
            self.posts.append(re.sub(r"am_\w+", "am", request.url.split("/v1/")[-1]))

    def choose(self, kind: str) -> None:
        self.page.get_by_role("radio", name=kind).check()

    def card(self, place: int) -> Locator:
        """The card of the class in this place, the first being 0."""
        return self.page.locator("#classes .class").nth(place)

    def name(self, *names: str) -> None:
        """Name the classes, adding those that are missing."""
        for place, name in enumerate(names):
            if place == self.page.locator("#classes .class").count():
                self.page.get_by_role("button", name="Add a class").click()
            self.card(place).get_by_label("Name of the class").fill(name)

    def draw(self, where: Locator, strokes: Iterable[Stroke]) -> None:
        """With the mouse, on the pad that is there."""
        pad = where.locator("canvas")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        assert box is not None
        mouse = self.page.mouse
        for stroke in strokes:
            places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            mouse.move(*places[0])
            mouse.down()
            for place in places[1:]:
                mouse.move(*place, steps=2)
            mouse.up()

    def add_drawing(self, place: int, strokes: Iterable[Stroke]) -> None:
        self.draw(self.card(place), strokes)
        self.card(place).get_by_role("button", name="Add", exact=True).click()

    def add_lines(self, place: int, *lines: str) -> None:
        field = self.card(place).get_by_label("New examples")
        field.fill("\n".join(lines))
        field.press("Enter")

    def expect_winner(self, name: str) -> None:
        """The verdict names it, its bar is marked, and no other is longer."""
        expect(self.verdict).to_have_text(f"It is “{name}”.")
        expect(self.page.locator("#bars .best .name")).to_have_text(name)
        shares = {row.locator(".name").inner_text(): self.share(row) for row in self.page.locator("#bars li").all()}
        assert max(shares, key=lambda one: shares[one]) == name, shares

    def share(self, row: Locator) -> int:
        return int(row.locator(".share").inner_text().rstrip("%"))

    def until(self, check: Callable[[], bool], what: str) -> None:
        """Wait for something that is no element."""
        for _ in range(600):
            if check():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(what)

    def copied(self, language: str) -> str:
        """What *Copy as* puts into the clipboard."""
        self.page.get_by_role("button", name=f"Copy as {language}").click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Copied")
        code = str(self.page.evaluate("navigator.clipboard.readText()"))
        assert code.strip() == dialog.locator("code").inner_text().strip()
        dialog.get_by_role("button", name="Close").click()
        return code


def take_picture(page: Page, name: str, *, full_page: bool = True) -> None:
    """For the documentation, where KSHOT_PICTURES asks for it; in 256 colours, for its size."""
    if os.environ.get("KSHOT_PICTURES"):
        page.mouse.move(0, 0)
        shot = Image.open(io.BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
        shot.quantize(256, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)
