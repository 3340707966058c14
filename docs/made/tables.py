"""Markdown tables whose cells say what they were given, whatever characters are in it."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are Markdown."""
    lines = [head, ["---"] * len(head), *([cell(part) for part in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    """Markdown on one line: double backticks of docstrings become single ones, and nothing ends the cell or the tag."""
    text = " ".join(text.split()).replace("``", "`")
    parts = re.split(r"(`[^`]*`|<br>)", text)
    return "".join(p if p.startswith("`") or p == "<br>" else p.replace("<", "&lt;") for p in parts).replace("|", r"\|")
