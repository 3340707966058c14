"""The playground: texts and tables as people have them, with all that separates and quotes."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.playground import Visitor
from tests.console.test_playground import run

pytestmark = pytest.mark.flow


def test_quotes_and_signs_that_shells_know_survive_being_copied(page_url: str, visit: Visit, tmp_path: Path) -> None:
    visitor = Visitor(visit(page_url, permissions=["clipboard-read", "clipboard-write"]))
    visitor.choose("Texts")
    visitor.name("it's $HOME", 'a "b" \\ c')
    visitor.add_lines(0, "where's my `card`?", "JSON", "card\\n hasn't come: 100 %")
    visitor.add_lines(1, '"refund" <b>now</b>', "${money} back 😀", "I want a refund")
    visitor.page.get_by_label("Type a text it has not seen").fill("where's the $card")
    visitor.expect_winner("it's $HOME")
    assert '["it\'s $HOME"]' in run("Python", visitor.copied("Python"), tmp_path)
    answer = json.loads(run("curl", visitor.copied("curl"), tmp_path))
    assert answer["predictions"][0]["label"] == "it's $HOME" and answer["classes"][1] == 'a "b" \\ c'


_LABELLED = "([text, id]) => import('/static/playground/table.js').then((table) => table.labelledRows(text, {id}))"


@pytest.mark.parametrize(
    ("kind", "text", "rows"),
    [
        ("vector", "1,2,a\r\n3,4,b\r\n\r\n", [["a", [1, 2]], ["b", [3, 4]]]),
        ("vector", "x;y;class\n1;-2.5e1;a\n3;4;b", [["a", [1, -25]], ["b", [3, 4]]]),
        ("vector", "1\t2\t1.5", [["1.5", [1, 2]]]),
        ("text", '"where, ""exactly"", is it",arrival\nI want a refund,refund\n', None),
        ("text", '"two\nlines"\tarrival', [["arrival", "two\nlines"]]),
    ],
)
def test_tables_as_spreadsheets_and_csv_files_have_them(
    page_url: str, visit: Visit, kind: str, text: str, rows: object
) -> None:
    rows = rows or [["arrival", 'where, "exactly", is it'], ["refund", "I want a refund"]]
    assert visit(page_url).evaluate(_LABELLED, [text, kind]) == rows


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "at least one row"),
        ("a,b\n1,2,c\n1,x,d", "Row 3: “x” is not a number"),
        ("1\n2", "Row 1: the last of at least two columns is the class"),
        ("1,2,a\n1,2,", "Row 2: the last"),
    ],
)
def test_tables_that_cannot_be_read_say_where(page_url: str, visit: Visit, text: str, fault: str) -> None:
    page = Visitor(visit(page_url)).page
    page.get_by_role("radio", name="Numbers").check()
    page.get_by_role("button", name="Paste a table").click()
    page.get_by_label("Rows").fill(text)
    page.get_by_role("button", name="Add these rows").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(fault)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
