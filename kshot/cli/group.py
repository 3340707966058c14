"""How commands are read and how they end: global options anywhere, errors as lines and exit codes."""

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from kshot.cli.printing import say
from kshot.cli.refusals import exit_code, lines_of
from kshot.cli.sources.examples import WrongUse
from kshot.contracts.errors import KshotError

_GLOBAL = ("--url", "--key")


class Commands(TyperGroup):
    """The root of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, with ``--url`` and ``--key`` welcome after the command too."""
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what went wrong becomes a line or two on stderr, and an exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read the output has seen enough
        except (KshotError, WrongUse, ValidationError, OSError) as error:
            for line in lines_of(error):
                say(line)
            raise typer.Exit(exit_code(error)) from None


def hoisted(args: list[str]) -> list[str]:
    """The arguments with global options moved to the front; what follows ``--`` stays."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    others: list[str] = []
    place = 0
    while place < end:
        both = args[place] in _GLOBAL and place + 1 < end
        ours = both or args[place].startswith(tuple(f"{name}=" for name in _GLOBAL))
        width = 2 if both else 1
        (front if ours else others).extend(args[place : place + width])
        place += width
    return [*front, *others, *args[end:]]
