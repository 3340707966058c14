"""Where the service is, and with which key: from the global options or the environment."""

from dataclasses import dataclass

import typer

from kshot.cli.sources.examples import WrongUse
from kshot.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"
_RETRIES = 3
"""Under two seconds until a service that is not there is given up; a busy one says itself how long to wait."""


@dataclass(frozen=True)
class Place:
    """What the global options said."""

    url: str
    key: str | None


def check_url(url: str) -> str:
    """The URL. Raises WrongUse where nothing could be there."""
    if not url.startswith(("http://", "https://")):
        raise WrongUse(f"{url!r} is no URL of a service: --url (KSHOT_URL) begins with http:// or https://")
    return url


def connect(ctx: typer.Context) -> Client:
    """A client of the service, closed when the command ends."""
    place = place_of(ctx)
    client: Client = ctx.with_resource(Client(place.url, place.key, retries=_RETRIES))
    return client


def place_of(ctx: typer.Context) -> Place:
    """Where the command goes."""
    found: Place = ctx.find_root().obj
    return found
