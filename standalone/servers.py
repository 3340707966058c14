"""Postgres and Valkey together: given by URL, or embedded."""

from collections.abc import Mapping
from dataclasses import dataclass

from standalone.binaries import find_postgres, find_valkey, reachable
from standalone.home import Home
from standalone.parts import Part
from standalone.postgres import Postgres
from standalone.unprivileged import server_account, server_folder, socket_folder
from standalone.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    """The two URLs, and the parts to start so that they answer (none for a URL that was given)."""

    database_url: str
    redis_url: str
    parts: tuple[Part, ...]


def choose_servers(home: Home, environ: Mapping[str, str]) -> Servers:
    """``DATABASE_URL`` and ``REDIS_URL`` where they are set; embedded servers below ``home`` for the rest.

    Raises:
        StandaloneError: no program to run, or no way to run it here.
    """
    database_url, redis_url = environ.get("DATABASE_URL", ""), environ.get("REDIS_URL", "")
    if database_url and redis_url:
        return Servers(database_url, redis_url, ())
    account = server_account(home)
    servers = server_folder(home, account)
    sockets = socket_folder(servers, account)
    parts = []
    if not database_url:
        program = reachable(find_postgres(servers), account, servers)
        postgres = Postgres(program, servers, sockets, home.logs / "postgres.log", account)
        database_url = postgres.url
        parts.append(postgres.part())
    if not redis_url:
        valkey = Valkey(reachable(find_valkey(), account, servers), servers, sockets, home.logs / "valkey.log", account)
        redis_url = valkey.url
        parts.append(valkey.part())
    return Servers(database_url, redis_url, tuple(parts))
