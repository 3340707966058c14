"""``kshot status``: is the service there, is it well, is the key good."""

import typer

from kshot.cli.connection import connect, place_of
from kshot.cli.printing import AsJson, facts, plain, show_json
from kshot.cli.refusals import Exit
from kshot.client import Client, Unauthenticated

_MEANING = {
    "ready": "ready",
    "degraded": "degraded: adaptations are accepted and kept; predictions wait for what is away",
    "starting": "starting: no checkpoint is published yet",
    "unavailable": "unavailable: the database is away",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kshot status --url https://kshot.example.org")(status)


def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Say whether the service is there and ready, what of it is away, what it serves, and whether the key is good.

    Exit code 0 only where it is ready and takes the key.
    """
    client, place = connect(ctx), place_of(ctx)
    readiness = client.readiness()
    takes_key, serving = _serving(client) if readiness.status in ("ready", "degraded") else (None, [])
    found = {"url": place.url, **plain(readiness), "key_accepted": takes_key, "production": serving}
    if as_json:
        show_json(found)
    else:
        facts(
            {
                "service": place.url,
                "status": _MEANING.get(readiness.status, readiness.status),
                **plain(readiness.parts),
                "key": _key_in_words(takes_key, place.key),
                "in production": serving,
            }
        )
    if readiness.status != "ready" or not takes_key:
        raise typer.Exit(Exit.FAILED)


def _serving(client: Client) -> tuple[bool, list[str]]:
    """Whether the service takes the key (or asks for none), and the names that callers may ask for."""
    try:
        return True, sorted(alias.name for alias in client.aliases() if alias.alias == "production")
    except Unauthenticated:
        return False, []


def _key_in_words(takes_key: bool | None, key: str | None) -> str | None:
    if takes_key is None:
        return None
    if takes_key:
        return "accepted" if key else "none needed"
    return "not accepted: set KSHOT_KEY to a valid one" if key else "needed: set KSHOT_KEY"
