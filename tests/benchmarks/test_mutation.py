"""Changes in SQL that mutation testing makes, and the page that it writes; the rest of it needs cosmic-ray."""

from pathlib import Path

from benchmarks.mutation.page import ARGUED, Outcome, read_arguments, write_page
from benchmarks.mutation.statements import changed_statements
from benchmarks.mutation.targets import TARGETS

ROOT = Path(__file__).parents[2]


def test_each_part_of_a_statement_is_changed():
    changed = changed_statements("UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 AND n < 3 FOR UPDATE SKIP LOCKED")
    for expected in (
        "UPDATE t SET n = n, w = NULL\nWHERE id = $1 AND n < 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1\nWHERE id = $1 AND n < 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE n < 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 OR n < 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id <> $1 AND n < 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 AND n <= 3 FOR UPDATE SKIP LOCKED",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 AND n < 3 FOR UPDATE",
        "UPDATE t SET n = n + 1, w = NULL\nWHERE id = $1 AND n < 3",
    ):
        assert expected in changed
    assert changed_statements("nothing to do with a database") == []


def test_what_is_changed_and_what_should_notice_are_there():
    for target in TARGETS:
        for file in (target.module, *target.tests):
            assert (ROOT / file).is_file(), file


def test_a_survivor_is_on_the_page_with_its_argument_or_as_open(tmp_path: Path):
    argued = read_arguments(ARGUED)
    (module, change), why = next(iter(argued.items()))
    one = Outcome(module, "SqlText", 7, change, None, 1.0, "", "")
    other = Outcome(module, "SqlText", 8, "- a\n+ b", None, 1.0, "", "")
    noticed = Outcome(module, "SqlText", 9, "- quick\n+ slow", "failed", 1.0, "", "")
    write_page([one, other, noticed], {module: 5}, tmp_path / "page")
    page = (tmp_path / "page.md").read_text()
    assert why in page and "| 5 | 3 | 1 | 0 | 2 | 1 |" in page
    assert "- a\n+ b" in page and "- quick" not in page
