"""Where the service is, and with which key: from the global options or the environment."""

from dataclasses import dataclass

import typer

from kshot.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Place:
    """What the global options said."""

    url: str
    key: str | None


def connect(ctx: typer.Context) -> Client:
    """A client of the service, closed when the command ends."""
    place: Place = ctx.find_root().obj
    client: Client = ctx.with_resource(Client(place.url, place.key))
    return client


def place_of(ctx: typer.Context) -> Place:
    """Where the command goes."""
    found: Place = ctx.find_root().obj
    return found
