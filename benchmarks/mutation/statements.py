"""Statements in SQL with one thing changed: a condition, a lock, an order, an assignment."""

import re

_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|WHERE|FROM|JOIN|AND|OR|NOT)\b|\bstatus\b")
_CONDITION = r"(?:[^()\n]|\((?:[^()]|\([^()]*\))*\))+?"
_CHANGES = [
    (rf"\s+AND {_CONDITION}(?=\s+(?:AND|OR|GROUP|ORDER|RETURNING|LIMIT|FOR)\b|\s*\n|\)|$)", ""),
    (rf"(?<=WHERE ){_CONDITION}\s+AND ", ""),
    (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"),
    (r"(?<![<>=-])<(?![=>])", "<="),
    (r"<=", "<"),
    (r"(?<![<>=-])>(?!=)", ">="),
    (r"(\b(?:WHERE|AND|OR|ON|WHEN)\s+[\w.${}()]+) = ", r"\1 <> "),
    (r" \+ 1\b", ""),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" SKIP LOCKED", ""),
    (r" FOR (?:NO KEY |KEY )?(?:UPDATE|SHARE)(?: OF \w+)?(?: SKIP LOCKED)?", ""),
    (r"'queued'", "'running'"),
    (r"'running'", "'queued'"),
    (r"'succeeded'", "'failed'"),
    (r"(?<!IS )\bNOT ", ""),
    (r"\bIS NOT NULL", "IS NULL"),
    (r"\bLEFT JOIN LATERAL\b", "JOIN LATERAL"),
    (r"\bLEFT JOIN (?!LATERAL)", "JOIN "),
    (r",\s*\w+ = [^,\n]+(?=,|\n)", ""),
    (r"coalesce\(([^(),]+(?:\([^()]*\))?), [^()]+?\)", r"\1"),
    (r"(ORDER|PARTITION) BY [^,()\n]+, ", r"\1 BY "),
    (r" LIMIT \S+", ""),
    (r"'off'", "'on'"),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
]


def changed_statements(text: str) -> list[str]:
    """``text`` with each change that fits it, once; none where it is no SQL."""
    if not _SQL.search(text):
        return []
    found = (
        text[: match.start()] + match.expand(change) + text[match.end() :]
        for pattern, change in _CHANGES
        for match in re.finditer(pattern, text)
    )
    return list(dict.fromkeys(found))
