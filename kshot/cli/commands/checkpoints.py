"""``kshot checkpoints``: what can be adapted."""

from typing import Annotated

import typer

from kshot.cli.commands.evaluation import print_evaluation
from kshot.cli.connection import connect
from kshot.cli.describing import figure, shape, size_in_words, takes
from kshot.cli.naming import find_checkpoint
from kshot.cli.printing import AsJson, facts, show_json, table
from kshot.contracts.registry_bodies import Checkpoint

checkpoints = typer.Typer(
    no_args_is_help=True, help="Checkpoints: list them, look at one, see what an alias pointed at."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(checkpoints, name="checkpoints")


@checkpoints.command("list", epilog="Example: kshot checkpoints list")
def list_all(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List checkpoints, newest first: what they take and how good they are on classes they never saw."""
    found = list(connect(ctx).checkpoints())
    if as_json:
        show_json(found)
        return
    columns = ["name", "aliases", "takes", "learner", "measured", "id"]
    rows = ([one.name, _short(one), takes(one.input), one.learner, _measured(one), one.id] for one in found)
    table(columns, rows, "no checkpoints yet: the operator publishes some, kshot train makes one")


@checkpoints.command(epilog="Example: kshot checkpoints show photos")
def show(
    ctx: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="name, name@alias or an id")],
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint: what it takes, where it comes from, and its whole evaluation table."""
    found = find_checkpoint(connect(ctx), checkpoint)
    if as_json:
        show_json(found)
        return
    facts(
        {
            "id": found.id,
            "name": found.name,
            "description": found.description,
            "aliases": found.aliases,
            "takes": takes(found.input),
            "tasks": found.tasks,
            "learner": found.learner,
            "other learners": [name for name in found.learners if name != found.learner],
            "size": size_in_words(found.bytes),
            "data": [source.name for source in found.lineage.data],
            "began at": found.parent,
            "job": found.job,
            "created": found.created_at,
            "deleted": found.deleted_at,
        }
    )
    print_evaluation(found.evaluation)


@checkpoints.command(epilog="Example: kshot checkpoints history photos")
def history(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="name@alias; name means name@production")],
    as_json: AsJson = False,
) -> None:
    """Show what an alias pointed at, newest first, and why it moved."""
    found = list(connect(ctx).alias_history(name))
    if as_json:
        show_json(found)
        return
    columns = ["version", "checkpoint", "since", "reason", "promotion"]
    table(columns, ([one.version, one.checkpoint, one.at, one.reason, one.promotion] for one in found))


def _short(checkpoint: Checkpoint) -> list[str]:
    return [alias.partition("@")[2] for alias in checkpoint.aliases]


def _measured(checkpoint: Checkpoint) -> str:
    rows = checkpoint.evaluation
    return f"{shape(rows[0])} {figure(rows[0])}" if rows else ""
