"""``kshot keys``: who may call the service."""

from typing import Annotated, Literal

import typer

from kshot.cli.connection import connect
from kshot.cli.printing import AsJson, data, say, show_json, table
from kshot.contracts.api import ApiKey

_DAY_S = 86_400
_Key = Annotated[str, typer.Argument(metavar="KEY", help="Id of a key (key_...), not its secret")]
keys = typer.Typer(no_args_is_help=True, help="API keys (administrators): list, create, rotate, revoke.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")


@keys.command("list", epilog="Example: kshot keys list")
def list_all(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the keys of all tenants, newest first; never their secrets."""
    found = list(connect(ctx).keys())
    if as_json:
        show_json(found)
        return
    columns = ["id", "name", "role", "tenant", "begins with", "created", "state"]
    rows = ([key.id, key.name, key.role, key.tenant, key.prefix, key.created_at, _state(key)] for key in found)
    table(columns, rows, "no keys yet: kshot keys create NAME")


@keys.command("create", epilog="Example: kshot keys create reporting --tenant sales --days 90")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for")],
    role: Annotated[
        Literal["user", "admin"], typer.Option(help="admin may also train, promote and make keys")
    ] = "user",
    tenant: Annotated[
        str | None, typer.Option(help="Whose models it sees; made where it is new; yours by default")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Until it expires; never by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is printed once, alone on stdout, and cannot be seen again."""
    seconds = None if days is None else days * _DAY_S
    key = connect(ctx).create_key(name, role=role, tenant=tenant, expires_in_seconds=seconds)
    _show_once(key, as_json)


@keys.command("rotate", epilog="Example: kshot keys rotate key_01ABC --grace-hours 24")
def rotate(
    ctx: typer.Context,
    key: _Key,
    grace_hours: Annotated[
        int, typer.Option(min=0, max=2160, help="How long the old secret is still good; 0 where others have it")
    ],
    days: Annotated[
        int | None, typer.Option(min=1, help="Until the new one expires; by default as the old one was made")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key in the place of another. Its secret is printed once, alone on stdout, and cannot be seen again."""
    seconds = None if days is None else days * _DAY_S
    made = connect(ctx).rotate_key(key, grace_seconds=grace_hours * 3600, expires_in_seconds=seconds)
    _show_once(made, as_json)


@keys.command("revoke", epilog="Example: kshot keys revoke key_01ABC")
def revoke(
    ctx: typer.Context,
    key: _Key,
) -> None:
    """Revoke a key, at once. Revoking it twice is no error."""
    connect(ctx).revoke_key(key)
    say(f"{key} is revoked")


def _show_once(key: ApiKey, as_json: bool) -> None:
    if as_json:
        show_json(key)
        return
    say(f"{key.id} ({key.role} of {key.tenant}); keep the secret, it is shown this once:")
    data(key.key or "")


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d}"
