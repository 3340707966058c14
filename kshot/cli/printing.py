"""Where output goes: data to stdout, everything that is said about it to stderr. Colour in terminals only."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_WIDE = 240
"""Of tables, and of whatever is no terminal's: a row is a line, and no id is cut; a narrow terminal wraps it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people")]


def data(text: str) -> None:
    """A line of data, as it is."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line about what is going on."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line that the user should not miss."""
    Console(stderr=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def show_json(thing: object) -> None:
    """A value, answers of the service among it, as indented JSON."""
    sys.stdout.write(json.dumps(plain(thing), indent=2, ensure_ascii=False) + "\n")


def plain(thing: object) -> Any:
    """The same in JSON's own types."""
    if isinstance(thing, BaseModel):
        return thing.model_dump(mode="json", by_alias=True)
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(one) for one in thing]
    return thing


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing yet") -> None:
    """Rows under headings; ``empty`` is said where there are none. None is a blank."""
    made = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    if not made.row_count:
        say(empty)
        return
    _print(made, Console(width=_WIDE))


def facts(pairs: Mapping[str, object]) -> None:
    """What is known about one thing: a name and a value a line, without those that are None or empty."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        if text := cell(value):
            made.add_row(name, text)
    _print(made, _console())


def cell(value: object) -> str:
    """A value as people read it: times in their own zone, four digits of a fraction."""
    match value:
        case None | [] | () | {}:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M")
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(cell(one) for one in value)
        case _:
            return str(value)


def counting(unit: str) -> Progress:
    """A bar on stderr that counts; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _print(made: Table, console: Console) -> None:
    """A table on stdout, without the blanks that fill its last column."""
    with console.capture() as captured:
        console.print(made, markup=False, highlight=False)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)
