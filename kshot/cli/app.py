"""The commands, wired together; the script ``kshot`` begins here."""

from typing import Annotated

import typer

import kshot
from kshot.cli.commands import (
    adapting,
    aliases,
    checkpoints,
    datasets,
    jobs,
    keys,
    predicting,
    status,
    tenants,
    training,
)
from kshot.cli.connection import DEFAULT_URL, Place, check_url
from kshot.cli.group import Commands
from kshot.cli.printing import data, warn

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="Example: kshot adapt pictures/ --checkpoint photos\n\n"
    "Exit codes: 0 good, 1 refused by the service or failed, 2 wrong use, 3 not reachable, 130 interrupted.",
)
for module in (adapting, predicting, status, training, jobs, datasets, checkpoints, aliases, keys, tenants):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        data(f"kshot {kshot.__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="KSHOT_URL", help="Where the service is; before or after the command")
    ] = DEFAULT_URL,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="KSHOT_KEY", help="An API key; better set KSHOT_KEY: others on this machine see what is typed"
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop")
    ] = False,
) -> None:
    """Few-shot learning from the shell: teach a model from a folder, a CSV or an npz file, ask it, and run the service.

    Data goes to stdout, what is said about it to stderr. Commands that show an object take --json.
    """
    source = ctx.get_parameter_source("key")
    if key is not None and source is not None and source.name == "COMMANDLINE":
        warn("others on this machine see a key on the command line, and the shell's history keeps it; set KSHOT_KEY")
    ctx.obj = Place(check_url(url), key)


def main() -> None:
    """Run a command line; what the script ``kshot`` calls."""
    app(prog_name="kshot")
