"""A table as a page: Markdown, JSON and a plot, with the command, the commit and the machine that gave it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.plot import draw
from benchmarks.accuracy.table import Figure, Heading, Row, Table
from benchmarks.report import about


def write(stem: Path, table: Table) -> None:
    """Write ``stem.md``, ``stem.json`` and ``stem.png``, with command, commit, date and machine."""
    origin = about()
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(markdown(table, origin, f"{stem.name}.png"))
    stem.with_suffix(".json").write_text(json.dumps(_as_json(table, origin), indent=1) + "\n")
    draw(stem.with_suffix(".png"), table)


def markdown(table: Table, origin: Mapping[str, Any], picture: str) -> str:
    """The page: where the figures come from, the figures, what is published beside them, details, the plot."""
    lines = [f"# {table.title}", "", *(f"- {name}: {value}" for name, value in origin.items()), ""]
    lines += [f"Figures: {table.metric}, mean ± half the width of its 95% interval.", ""]
    lines += [f"{note}\n" for note in table.notes]
    body = [cells for row in table.rows for cells in _cells(table, row)]
    lines += _grid(["", *(heading.name for heading in table.headings)], body)
    if table.details:
        names = list(dict.fromkeys(name for detail in table.details for name in detail))
        lines += ["", *_grid(names, [[str(detail.get(name, "")) for name in names] for detail in table.details])]
    return "\n".join([*lines, "", f"![{table.title}]({picture})", ""])


def _cells(table: Table, row: Row) -> list[list[str]]:
    """A row's own figures; below them, where there are any, the published ones and how far ours are from them."""
    own = [row.label, *(_figure(row.figures.get(heading), table.digits) for heading in table.headings)]
    if not row.published:
        return [own]
    beside = [_published(row, heading, table.digits) for heading in table.headings]
    return [own, ["*published (ours minus published)*", *beside]]


def _figure(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "-"
    cut = "" if figure.finished else f" ({figure.count} of {figure.asked})"
    return f"{figure.mean:.{digits}f} ± {figure.interval:.{digits}f}{cut}"


def _published(row: Row, heading: Heading, digits: int) -> str:
    theirs, ours = row.published.get(heading), row.figures.get(heading)
    if theirs is None:
        return ""
    return f"*{theirs:g}*" if ours is None else f"*{theirs:g} ({ours.mean - theirs:+.{digits}f})*"


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _as_json(table: Table, origin: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "name": row.name,
            "unfinished": row.unfinished,
            "figures": {heading.name: vars(figure) for heading, figure in row.figures.items()},
            "published": {heading.name: value for heading, value in row.published.items()},
        }
        for row in table.rows
    ]
    return {"about": origin, "metric": table.metric, "notes": table.notes, "rows": rows, "details": table.details}
