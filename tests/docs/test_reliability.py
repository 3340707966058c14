"""The page of reliability, counted: every case of every row is shown by a test, and no row of the design is missing."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from tests.docs.conftest import ROOT

DESIGN = ROOT.parent / "shared" / "design" / "reliability.md"


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """The room that finds rows and tests."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield import_module("made.reliability")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def test_every_case_of_every_row_is_shown_by_a_test(made: Any):
    proofs = made.proofs()
    for row in made.rows(made.PAGE.read_text()):
        assert row.cases, row.given
        for case in row.cases:
            assert any(made.proves(proof, row, case) for proof in proofs), f"no test shows: {row.given}: {case}"


def test_every_mark_names_one_row_and_cases_of_it(made: Any):
    rows = made.rows(made.PAGE.read_text())
    for proof in made.proofs():
        named = [row for row in rows if row.is_named(proof.row)]
        assert len(named) == 1, f"{proof.test}: {proof.row!r} names {len(named)} rows"
        assert proof.cases and set(proof.cases) <= set(named[0].cases), f"{proof.test}: {proof.cases} of {proof.row!r}"


def test_no_mark_is_overlooked(made: Any):
    """Marks are found in the text of the files; those on classes, or made at run time, would not count."""
    marked = sum(
        len(re.findall(rf"^\s*@{re.escape(made.MARK)}\(", path.read_text(), re.MULTILINE))
        for path in (ROOT / "tests").rglob("*.py")
    )
    assert marked == len(made.proofs())


@pytest.mark.skipif(not DESIGN.exists(), reason="the design document is not part of the repository")
def test_the_page_has_every_row_of_the_design_and_no_other(made: Any):
    ours, theirs = made.rows(made.PAGE.read_text()), made.rows(DESIGN.read_text())
    assert len(theirs) == 35
    said = [(row.table, row.given, row.expected) for row in theirs]
    assert [(row.table, row.given, row.expected) for row in ours if row.table != "fuzzing"] == said
    last = DESIGN.read_text().strip().splitlines()[-1]
    assert [f"{row.given}, {row.expected}" for row in ours if row.table == "fuzzing"] == [last]
