"""The reference of the command line, from typer's own help."""

import re

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command


def markdown() -> str:
    """Each command with its arguments and options, one level of headings deeper than typer writes them."""
    from kshot.cli.app import app

    command = get_command(app)
    made = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="kshot"), name="kshot")
    return _linked(re.sub(r"^(#+ )", r"#\1", made, flags=re.MULTILINE))


def _linked(made: str) -> str:
    """With links in place of the first words of what each command says under its own heading."""
    lines, prefix, listing = [], "", False
    for line in made.splitlines():
        if heading := re.match(r"^#+ `(.+)`$", line):
            prefix, listing = heading[1], False
        listing = listing or line == "**Commands**:"
        command = re.match(r"^\* `([\w-]+)`", line) if listing else None
        full = f"{prefix} {command[1]}" if command else ""
        lines.append(f"* [`{full}`](#{full.replace(' ', '-')})" if command else line)
    return "\n".join(lines)
