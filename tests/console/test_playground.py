"""The playground on the checkpoints that ship: drawings, texts and tables are learned; what is copied runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.browser import PHONE, assert_accessible, assert_fits, assert_keyboard_reaches_all, settle
from tests.console.conftest import Visit
from tests.console.playground import CROSS, HOOK, RING, Visitor, moved, take_picture

pytestmark = pytest.mark.flow


def test_three_symbols_drawn_twice_each_and_a_drawing_it_has_not_seen(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url))
    visitor.name("ring", "cross", "hook")
    for place, symbol in enumerate([RING, CROSS, HOOK]):
        visitor.add_drawing(place, symbol)
        visitor.add_drawing(place, moved(symbol, 0.08))
        expect(visitor.card(place).get_by_role("listitem")).to_have_count(2)
    page = visitor.page
    for name, symbol in [("hook", HOOK), ("ring", RING), ("cross", CROSS)]:
        visitor.draw(page.locator("#query"), moved(symbol, -0.06))
        visitor.expect_winner(name)
        expect(page.locator("#nearest li").first).to_contain_text(name)
        expect(page.locator("#nearest img").first).to_have_attribute("src", re.compile("^data:image/png;base64,"))
        if name != "cross":
            page.locator("#query").get_by_role("button", name="Clear the pad").click()
            expect(visitor.verdict).to_contain_text("Now try it")
    expect(page.locator("#quality")).to_have_text(
        re.compile(r"[456] of 6 of your own examples are recognised when left out; too few to be sure\.")
    )
    expect(page.locator("#timings")).to_have_text(re.compile(r"Adapted in .+, batch of \d+; this answer in .+\."))
    assert visitor.posts.count("adapt") >= 1 and visitor.posts.count("adapted-models/am/examples") >= 1
    take_picture(page, "playground-drawings")


def test_two_intents_of_two_sentences_and_a_third_sentence(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url, color_scheme="dark"))
    visitor.choose("Texts")
    visitor.name("arrival", "refund")
    visitor.add_lines(0, "where is my card", "card has not come")
    visitor.add_lines(1, "I want a refund", "give me my money back")
    page = visitor.page
    query = page.get_by_label("Type a text it has not seen")
    query.type("my new card is late")
    visitor.expect_winner("arrival")
    query.fill("I was charged twice, refund please")
    visitor.expect_winner("refund")
    expect(page.locator("#nearest li").first).to_contain_text("refund")
    take_picture(page, "playground-texts")


def test_a_pasted_table_and_the_unknown_slider(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url))
    page = visitor.page
    visitor.choose("Numbers")
    page.get_by_role("button", name="Paste a table").click()
    table = "length\twidth\tfruit\n18\t3.4\tbanana\n19.5\t3.9\tbanana\n7.2\t7.9\tapple\n6.8\t7.1\tapple"
    page.get_by_label("Rows").fill(table)
    page.get_by_role("button", name="Add these rows").click()
    expect(visitor.card(0).get_by_label("Name of the class")).to_have_value("banana")
    expect(visitor.card(1).get_by_role("listitem")).to_have_count(2)
    query = page.get_by_label("Type a row of numbers")
    query.fill("17, 4")
    visitor.expect_winner("banana")
    take_picture(page, "playground-table")
    query.fill("12.8, 5.6")  # between the two
    slider = page.get_by_label("Say “unknown” below")
    slider.fill("99")
    expect(visitor.verdict).to_have_text(re.compile(r"Unknown: no class reaches 99%\. The best has \d+%\."))
    expect(page.locator("#bars .best")).to_have_count(0)
    slider.fill("0")
    expect(visitor.verdict).to_have_text(re.compile("It is “(banana|apple)”."))
    expect(page.locator("#reject-value")).to_have_text("never")
    query.fill("17, four")
    expect(page.locator("#query-fault")).to_have_text("“four” is not a number.")


@pytest.mark.parametrize("kind", ["Drawings", "Texts", "Numbers", "Photos"])
def test_show_me_and_what_is_copied_runs(page_url: str, visit: Visit, kind: str, tmp_path: Path) -> None:
    visitor = Visitor(visit(page_url, permissions=["clipboard-read", "clipboard-write"]))
    page = visitor.page
    visitor.choose(kind)
    page.get_by_role("button", name="Show me").click()
    expect(visitor.verdict).to_have_class(re.compile("known"))
    label = page.locator("#bars .best .name").inner_text()
    for rejecting in (False, True):
        if rejecting:
            page.get_by_label("Say “unknown” below").fill("30")
        assert f"['{label}']" in run("Python", visitor.copied("Python"), tmp_path)
        assert re.search(rf'"label": ?"{label}"', run("curl", visitor.copied("curl"), tmp_path))


def run(language: str, code: str, folder: Path, **environ: str) -> str:
    """What copied code prints, pasted as it is."""
    command = [sys.executable, "-c", code] if language == "Python" else ["bash", "-euc", code]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=180, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_can_be_used_by_everyone(page_url: str, visit: Visit) -> None:
    """Full of examples, in both schemes, on a desk and on a phone; with the keyboard alone."""
    visitor = Visitor(visit(page_url))
    page = visitor.page
    settle(page)
    assert_keyboard_reaches_all(page)
    for kind in ("Texts", "Drawings"):
        visitor.choose(kind)
        page.get_by_role("button", name="Show me").click()
        expect(visitor.verdict).to_have_class(re.compile("known"))
        expect(page.locator("#nearest li")).to_have_count(3)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert_accessible(page)
    page.set_viewport_size(PHONE)
    assert_fits(page)
    assert_accessible(page)
    page.locator("#verdict").scroll_into_view_if_needed()
    take_picture(page, "playground-phone", full_page=False)
    assert_keyboard_reaches_all(page)
    for dialog in ("Copy as Python",):
        page.get_by_role("button", name=dialog).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
