"""The playground's ways in, and what it says when something does not go."""

import base64
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.console.conftest import Visit, Watch
from tests.console.playground import CROSS, HOOK, RING, Visitor, moved
from tests.console.test_playground import run
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import ADMIN_KEY, drawing_file

pytestmark = pytest.mark.flow

_HAND_OVER = """
(node, [type, name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: name.endsWith("png") ? "image/png" : "text/plain"}));
  const init = {bubbles: true, cancelable: true};
  const event = type === "paste"
    ? new ClipboardEvent("paste", {...init, clipboardData: transfer})
    : new DragEvent("drop", {...init, dataTransfer: transfer});
  node.dispatchEvent(event);
}
"""


def hand_over(visitor: Visitor, place: int, how: str, name: str, data: bytes) -> None:
    """Paste or drop a file on a class: the browser's own gesture cannot be made from a test."""
    node = visitor.card(place).locator(".collector")
    node.evaluate(_HAND_OVER, [how, name, base64.b64encode(data).decode()])


def test_pictures_are_chosen_dropped_pasted_and_taken_with_the_camera(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url))
    page = visitor.page
    visitor.choose("Photos")
    first, second = visitor.card(0), visitor.card(1)
    files = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": drawing_file(i)} for i in range(2)]
    first.locator("input[type=file]").set_input_files(files)
    expect(first.get_by_role("listitem")).to_have_count(2)
    hand_over(visitor, 0, "drop", "x.png", drawing_file(3))
    expect(first.get_by_role("listitem")).to_have_count(3)
    second.get_by_role("button", name="Webcam").focus()
    hand_over(visitor, 1, "paste", "x.png", drawing_file(4))
    expect(second.get_by_role("listitem")).to_have_count(1)
    second.get_by_role("button", name="Webcam").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Take a picture").click()
    expect(dialog).to_contain_text("1 taken")
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)
    expect(second.get_by_role("listitem")).to_have_count(2)
    page.locator("#query input[type=file]").set_input_files(files[0])
    visitor.expect_winner("class 1")
    hand_over(visitor, 0, "drop", "letter.txt", b"no picture")
    expect(first.get_by_role("alert")).to_contain_text("no file")
    hand_over(visitor, 0, "drop", "broken.png", b"\x89PNG no more")
    expect(first.get_by_role("alert")).to_contain_text("“broken.png” is no picture that this browser can read")


def test_a_finger_draws_and_a_stroke_can_be_taken_back(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url, has_touch=True, viewport={"width": 390, "height": 844}))
    page, card = visitor.page, visitor.card(0)
    box = card.locator("canvas").bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    for stroke in CROSS:
        for i, (x, y) in enumerate(stroke):
            point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            session.send(
                "Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": [point]}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("scrollY") == 0, "drawing does not scroll"
    card.get_by_role("button", name="Undo the last stroke").click()
    card.get_by_role("button", name="Add", exact=True).click()
    expect(card.get_by_role("listitem")).to_have_count(1)
    expect(card.get_by_role("button", name="Add", exact=True)).to_be_disabled()
    with_mouse = Visitor(visit(page_url))
    with_mouse.add_drawing(0, CROSS[:1])
    stroke_by = [one.card(0).locator("img").get_attribute("src") for one in (visitor, with_mouse)]
    assert all(source and source.startswith("data:image/png") for source in stroke_by)


def test_what_grows_is_grown_and_what_changes_is_made_anew(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(page_url))
    page = visitor.page

    def taught(examples: int, by: str) -> None:
        expect(page.locator("#quality")).to_contain_text(f"of {examples} ")
        assert visitor.posts[-1] == by, visitor.posts

    visitor.choose("Texts")
    visitor.add_lines(0, "where is my card", "my card has not come")
    visitor.add_lines(1, "I want a refund", "give me my money back")
    taught(4, "adapt")
    visitor.add_lines(0, "when will my card arrive")
    taught(5, "adapted-models/am/examples")
    visitor.card(0).get_by_role("button", name=re.compile("Remove example 3")).click()
    taught(4, "adapt")
    page.locator("#removed").get_by_role("button", name="Undo").click()
    taught(5, "adapted-models/am/examples")
    visitor.card(0).get_by_role("button", name=re.compile("Remove example 1")).click()
    taught(4, "adapt")
    page.locator("#removed").get_by_role("button", name="Undo").click()
    taught(5, "adapt")
    visitor.name("arrival")
    visitor.add_lines(1, "how do I get a refund")
    page.get_by_label("Type a text it has not seen").fill("is my card on its way")
    visitor.expect_winner("arrival")
    expect(page.locator("#removed").get_by_role("button", name="Undo")).to_have_count(
        0
    )  # it would undo what came after
    visitor.card(1).get_by_role("button", name="Remove this class").click()
    expect(visitor.verdict).to_have_text("Give examples of at least two classes.")
    expect(page.locator("#bars li")).to_have_count(0)
    expect(page.get_by_role("button", name="Copy as Python")).to_be_disabled()
    page.locator("#removed").get_by_role("button", name="Undo").click()
    visitor.expect_winner("arrival")


def test_a_model_that_is_gone_is_made_anew(page_url: str, visit: Visit, watch: Watch) -> None:
    watch.allowed = {404}
    visitor = Visitor(visit(page_url))
    page = visitor.page
    visitor.choose("Numbers")
    visitor.add_lines(0, "1 2", "1.5 2")
    with page.expect_response("**/v1/adapt") as adapted:
        visitor.add_lines(1, "7 8", "7 9")
    model = adapted.value.json()["id"]
    page.evaluate(f"import('/static/api.js').then((api) => api.call('DELETE', '/v1/adapted-models/{model}'))")
    visitor.add_lines(1, "8 8")
    expect(page.locator("#quality")).to_contain_text("of 5 ")
    assert visitor.posts[-2:] == ["adapted-models/am/examples", "adapt"]


def test_answers_that_are_out_of_date_are_dropped(page_url: str, visit: Visit) -> None:
    """The first adaptation is held back until the second one is through."""
    visitor = Visitor(visit(page_url))
    page = visitor.page
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        held.append(route) if not held else route.continue_()

    page.route("**/v1/adapt", hold_first)
    visitor.choose("Numbers")
    visitor.add_lines(0, "1 1", "1 2")
    visitor.add_lines(1, "8 8", "8 9")
    visitor.until(lambda: bool(held), "it was never taught")
    visitor.name("low", "high")
    page.get_by_label("Type a row of numbers").fill("8 7")
    visitor.expect_winner("high")
    assert len(held) == 1
    held[0].abort()
    expect(page.locator("#bars .name")).to_have_text(["low", "high"])


def test_faults_are_shown_where_they_are(page_url: str, visit: Visit, watch: Watch) -> None:
    watch.allowed = {422, 503}
    visitor = Visitor(visit(page_url))
    page = visitor.page
    visitor.choose("Numbers")
    visitor.name("same", "same")
    visitor.add_lines(0, "1 2 3", "1 x")
    expect(visitor.card(0).get_by_role("alert")).to_have_text("Row 2: “x” is not a number.")
    visitor.card(0).get_by_label("New examples").fill("")
    visitor.add_lines(0, "1 2 3", "2 2 3")
    visitor.add_lines(1, "4 5 6", "4 5")
    expect(visitor.card(1).get_by_role("alert")).to_contain_text("Another class is called “same” too")
    visitor.name("same", "other")
    expect(visitor.card(1).get_by_role("alert")).to_contain_text("3")
    expect(visitor.card(1).locator(".faulty")).to_contain_text("4, 5")
    visitor.card(1).get_by_role("button", name="Remove example 2 of other").click()
    expect(visitor.card(1).get_by_role("alert")).to_have_count(0)
    expect(page.locator("#timings")).to_contain_text("Adapted in")
    page.get_by_label("Type a row of numbers").fill("1 2")
    expect(page.locator("#result-fault").get_by_role("alert")).to_contain_text("expected 3 numbers")
    page.get_by_label("Type a row of numbers").fill("1 2 3")
    visitor.expect_winner("same")
    expect(page.locator("#result-fault").get_by_role("alert")).to_have_count(0)
    table = "\n".join(["1,2,3,many"] * 2001)
    page.get_by_role("button", name="Paste a table").click()
    page.get_by_label("Rows").fill(table)
    page.get_by_role("button", name="Add these rows").click()
    expect(page.locator("#teach-fault").get_by_role("alert")).to_contain_text("at most 2000 are allowed")


def test_what_is_away_for_a_while_is_asked_again(page_url: str, visit: Visit, watch: Watch) -> None:
    watch.allowed = {503}
    visitor = Visitor(visit(page_url))
    page = visitor.page
    away: list[str] = []

    def twice(route: Route) -> None:
        away.append(route.request.url)
        if away.count(route.request.url) > 2:
            return route.continue_()
        problem = {"status": 503, "code": "unavailable", "title": "x", "detail": "no worker is alive; try again"}
        route.fulfill(status=503, headers={"Retry-After": "1"}, body=json.dumps(problem))

    page.route(re.compile("/v1/(adapt|predict)$"), twice)
    visitor.choose("Numbers")
    visitor.add_lines(0, "1 1", "1 2")
    visitor.add_lines(1, "8 8", "8 9")
    expect(page.locator("#result-fault").get_by_role("alert")).to_have_text("no worker is alive; try again")
    page.get_by_label("Type a row of numbers").fill("8 7")
    visitor.expect_winner("class 2")
    expect(page.locator("#result-fault").get_by_role("alert")).to_have_count(0)
    assert len(away) >= 6


def test_what_is_copied_on_a_server_with_keys_names_the_key_and_never_holds_it(
    http_stack: HttpStack, visit: Visit, tmp_path: Path
) -> None:
    page = visit(f"{http_stack.api.url}/", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("API key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Sign in").click()
    visitor = Visitor(page)
    visitor.choose("Texts")
    page.get_by_role("button", name="Show me").click()
    expect(visitor.verdict).to_have_class(re.compile("known"))
    label = page.locator("#bars .best .name").inner_text()
    for language, answer in (("Python", f"['{label}']"), ("curl", f'"label":"{label}"')):
        code = visitor.copied(language)
        assert ADMIN_KEY not in code and "KSHOT_KEY" in code
        assert answer in run(language, code, tmp_path, KSHOT_KEY=ADMIN_KEY)


def test_a_checkpoint_named_in_the_address_and_one_chosen_by_the_service(page_url: str, visit: Visit) -> None:
    visitor = Visitor(visit(f"{page_url}/?checkpoint=glyphs-maml"))
    page = visitor.page
    chooser = page.get_by_label("Checkpoint", exact=True)
    expect(chooser).to_have_value("glyphs-maml")
    for place, symbol in enumerate([RING, HOOK]):
        visitor.add_drawing(place, symbol)
        visitor.add_drawing(place, moved(symbol, 0.05))
    visitor.draw(page.locator("#query"), moved(HOOK, -0.05))
    expect(visitor.verdict).to_have_class(re.compile("known"))
    chooser.select_option("auto")
    expect(page.locator("#choice")).to_contain_text("Chosen:")
    visitor.expect_winner("class 2")
