"""``kshot promote`` and ``kshot rollback``: which checkpoint callers of a name get."""

from typing import Annotated

import typer

from kshot.cli.connection import connect
from kshot.cli.printing import AsJson, facts, show_json
from kshot.contracts.registry_bodies import Alias

Name = Annotated[str, typer.Argument(metavar="NAME", help="name@alias; name means name@production")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: kshot promote letters ckpt_01ABC")(promote)
    app.command(epilog="Example: kshot rollback letters")(rollback)


def promote(
    ctx: typer.Context,
    name: Name,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="An id, or name@alias")],
    dataset: Annotated[
        str | None, typer.Option(help="Data set to compare on; by default the one it was trained on")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Move the alias without a comparison")] = False,
    as_json: AsJson = False,
) -> None:
    """Let callers of a name get this checkpoint.

    Where another one is in production, both are compared first on the same held-out classes, and one that does worse
    is refused with the figures (exit code 1).
    """
    _show(connect(ctx).promote(name, checkpoint, dataset=dataset, force=force), as_json)


def rollback(
    ctx: typer.Context,
    name: Name,
    version: Annotated[
        int | None, typer.Option(min=1, help="Of its history (kshot checkpoints history); by default the one before")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Point a name back at the checkpoint it pointed at before, at once and without a comparison."""
    _show(connect(ctx).roll_back(name, to=version), as_json)


def _show(alias: Alias, as_json: bool) -> None:
    if as_json:
        show_json(alias)
    else:
        facts({"alias": f"{alias.name}@{alias.alias}", "checkpoint": alias.checkpoint, "version": alias.version})
