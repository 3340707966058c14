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
    return re.sub(r"^(#+ )", r"#\1", made, flags=re.MULTILINE)
