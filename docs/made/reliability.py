"""Which test proves which row of the page of reliability: rows from its tables, tests by their marks
(``@pytest.mark.reliability("faults: worker SIGKILLed", "adapt")``: a table, the beginning of a row in it, cases)."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from made.tables import table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
MARK = "pytest.mark.reliability"


@dataclass(frozen=True)
class Row:
    """One row of a table: what happens or is sent, what must follow, and the cases that need a test each."""

    table: str
    given: str
    expected: str
    cases: tuple[str, ...] = ()

    def is_named(self, name: str) -> bool:
        """Whether a mark means this row."""
        return f"{self.table}: {self.given}".startswith(name)


@dataclass(frozen=True)
class Proof:
    """A test's mark: the row it names, the cases it shows, and where the test stands."""

    row: str
    cases: tuple[str, ...]
    test: str


def rows(text: str) -> list[Row]:
    """Every row of every table of a page, under the heading that it stands below."""
    found, heading, above = list[Row](), "", False
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:].strip().lower()
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")] if line.startswith("|") else []
        if re.fullmatch(r"[|: -]+", line):
            above = True
        elif above and len(cells) > 1:
            found.append(Row(heading, cells[0], cells[1], tuple(", ".join(cells[2:]).split(", ")) if cells[2:] else ()))
        else:
            above = False
    return found


def proofs() -> list[Proof]:
    """The marks of all tests, in the order of their files."""
    return [proof for path in sorted((ROOT / "tests").rglob("test_*.py")) for proof in _marks(path)]


def _marks(path: Path) -> Iterator[Proof]:
    text = path.read_text()
    if MARK not in text:
        return
    for node in ast.parse(text, str(path)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == MARK:
                    name, *cases = (ast.literal_eval(word) for word in mark.args)
                    yield Proof(name, tuple(cases), f"{path.relative_to(ROOT).as_posix()}::{node.name}")


def markdown() -> str:
    """A table of all tests: for each row its cases, and for each case the tests that show it."""
    marks = proofs()
    lines = [
        (row.given, case, "<br>".join(f"`{p.test.removeprefix('tests/')}`" for p in marks if proves(p, row, case)))
        for row in rows(PAGE.read_text())
        for case in row.cases
    ]
    return table(("row", "case", "tests"), lines)


def proves(proof: Proof, row: Row, case: str) -> bool:
    """Whether this test shows this case of this row."""
    return row.is_named(proof.row) and case in proof.cases
