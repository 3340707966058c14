"""The changes that are made. Cosmic-ray has those of Python; Postgres is told by strings and SQLAlchemy's calls."""

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from benchmarks.mutation.statements import changed_statements

_OF_PYTHON = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("NumberReplacer", "ExceptionReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ReplaceUnaryOperator_Delete_Not"),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt")),
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Div_Mul"),
)
_WORDS = {"succeeded": "failed", "failed": "succeeded", "running": "queued", "queued": "running", "admin": "user"}
_CONDITIONS = {"where", "and_", "or_", "values"}
_LINKS = {"where", "with_for_update", "on_conflict_do_nothing", "limit", "order_by", "outerjoin"}


def all_operators() -> Iterator[tuple[str, Operator]]:
    """Every operator with its name."""
    python = OperatorProvider()
    for name in _OF_PYTHON:
        yield name, python[name]()
    for kind in (SqlText, StatusWord, ArgumentDropped, LinkDropped, StatementDropped, AnswerDropped):
        yield kind.__name__, kind()


class _Ours(Operator):
    """An operator that says of a node what could stand in its place."""

    def variants(self, node: Any) -> list[str]:
        """Source texts to put in the node's place."""
        raise NotImplementedError

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        for _ in self.variants(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        leaf = parso.python.tree.Operator(self.variants(node)[index], node.start_pos, node.get_first_leaf().prefix)
        leaf.parent = node.parent
        return leaf

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class SqlText(_Ours):
    """One change in a statement: a condition dropped or turned, a lock, an order, an assignment left out."""

    def variants(self, node: Any) -> list[str]:
        return changed_statements(node.value) if node.type in {"string", "fstring_string"} else []


class StatusWord(_Ours):
    """Another status or role."""

    def variants(self, node: Any) -> list[str]:
        word = node.value.strip("\"'") if node.type == "string" else ""
        return [repr(_WORDS[word])] if word in _WORDS else []


class ArgumentDropped(_Ours):
    """A condition of several, or a value that is set, left out."""

    def variants(self, node: Any) -> list[str]:
        before = node.get_previous_leaf() if node.type == "trailer" else None
        if before is None or before.value not in _CONDITIONS or node.children[0].value != "(":
            return []
        inside = node.children[1]
        if inside.type != "arglist":
            return []
        given = [one for one in inside.children if one.type != "operator"]
        return ["(" + ", ".join(one.get_code() for one in given if one is not left) + ")" for left in given]


class LinkDropped(_Ours):
    """A call in a chain, such as ``.where(...)`` or ``.with_for_update(...)``, left out."""

    def variants(self, node: Any) -> list[str]:
        if node.type != "atom_expr":
            return []
        parts, found = node.children, []
        for i in range(len(parts) - 1):
            name = parts[i].get_code().strip()
            if name.startswith(".") and name[1:] in _LINKS:
                found.append("".join(part.get_code() for j, part in enumerate(parts) if j not in (i, i + 1)).lstrip())
        return found


class StatementDropped(_Ours):
    """A call whose answer nobody takes (no line of the log), an error raised, or something added up, left out."""

    def variants(self, node: Any) -> list[str]:
        if node.parent is None or node.parent.type != "simple_stmt":
            return []
        called = node.type == "atom_expr" and not node.get_code().strip().startswith("_log.")
        added = node.type == "expr_stmt" and node.children[1].get_code().strip() in {"+=", "-=", "|="}
        return ["pass"] if called or added or node.type == "raise_stmt" else []


class AnswerDropped(_Ours):
    """Nothing answered in the place of something."""

    def variants(self, node: Any) -> list[str]:
        return ["return None"] if node.type == "return_stmt" and node.children[1].get_code().strip() != "None" else []
