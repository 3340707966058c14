"""All changed versions of a module that differ from it when they run."""

import ast
import difflib
import re
from dataclasses import dataclass
from typing import Any

import parso
from cosmic_ray.ast import Visitor
from cosmic_ray.operators.operator import Operator

from benchmarks.mutation.operators import all_operators

_SIZE = re.compile(r"^- \w+ = (0x[0-9A-F]+|[\d_* .]+)(  #.*)?$", re.MULTILINE)
"""A constant of bytes, seconds or rows, or a lock's number: another value is another choice, not a fault."""


@dataclass(frozen=True)
class Mutant:
    """``change``: the lines that differ, as a difference shows them. It names the mutant, wherever it stands."""

    operator: str
    line: int
    change: str
    source: str


class _Change(Visitor):
    def __init__(self, operator: Operator, nth: int) -> None:
        self._operator, self._left, self.done = operator, nth, False

    def visit(self, node: Any) -> Any:
        for index, _ in enumerate(self._operator.mutation_positions(node)):
            if self._left == 0 and not self.done:
                self.done = True
                return self._operator.mutate(node, index)
            self._left -= 1
        return node


def mutants_of(source: str) -> list[Mutant]:
    """Each change once, in the order of the lines."""
    found: dict[str, Mutant] = {}
    plain = _what_runs(source)
    for name, operator in all_operators():
        nth = 0
        while (changed := _changed(source, operator, nth)) is not None:
            nth += 1
            runs = _what_runs(changed)
            if runs is not None and runs not in (plain, *found) and " not not " not in changed:
                found[runs] = _mutant(name, source, changed)
    return sorted((one for one in found.values() if not _SIZE.match(one.change)), key=lambda mutant: mutant.line)


def _changed(source: str, operator: Operator, nth: int) -> str | None:
    change = _Change(operator, nth)
    tree = change.walk(parso.parse(source))
    text: str = tree.get_code()
    return text if change.done else None


def _mutant(name: str, source: str, changed: str) -> Mutant:
    before, after = source.splitlines(), changed.splitlines()
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    first = next(int(line[4:].split(",")[0].split(" ")[0]) for line in lines if line.startswith("@@"))
    told = "\n".join(line[0] + " " + line[1:].strip() for line in lines if not line.startswith("@@"))
    return Mutant(name, first, told, changed)


def _what_runs(source: str) -> str | None:
    """The module without annotations and docstrings; None where it cannot be compiled."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
        if isinstance(getattr(node, "body", None), list):
            node.body = [one for one in node.body if not _is_text(one)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
