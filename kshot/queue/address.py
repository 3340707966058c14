"""Where Redis is and how to greet it, read from a URL as redis-py reads it."""

import ssl
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

_FORM = "redis://, rediss:// or unix://, as in redis://:PASSWORD@HOST:6379/0"
_KNOWN = frozenset({"connection_class", "host", "port", "path", "username", "password", "db"})


@dataclass(frozen=True)
class Address:
    """A socket's ``path``, or ``host`` and ``port``, with TLS where there is a context."""

    path: str | None
    host: str
    port: int
    tls: ssl.SSLContext | None
    db: int
    username: str | None
    password: str | None = field(repr=False)


def read_address(url: str) -> Address:
    """``redis://``, ``rediss://`` (with redis-py's ``?ssl_...=`` options) or ``unix://``.

    Raises ValueError, without the password in it, for what is no such URL, for an option that would have no effect and
    for files of TLS that cannot be read: who asks for a client certificate must not go without one.
    """
    try:
        found: dict[str, Any] = dict(parse_url(url))
    except ValueError:  # its words may quote the password
        raise ValueError(f"the Redis URL cannot be read; write {_FORM}, with % codes in the password") from None
    tls = {name: value for name, value in found.items() if name.startswith("ssl_")}
    secure = found.get("connection_class") is SSLConnection
    for name in found.keys() - _KNOWN - (tls.keys() if secure else set()):
        raise ValueError(f"the Redis URL has an option that is not supported here: {name}")
    return Address(
        path=found.get("path"),
        host=found.get("host", "localhost"),
        port=found.get("port", 6379),
        tls=_tls_context(tls) if secure else None,
        db=found.get("db", 0),
        username=found.get("username"),
        password=found.get("password"),
    )


def _followed(url: SecretStr) -> SecretStr:
    read_address(url.get_secret_value())
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_followed)]
"""A setting: a URL that can be followed."""


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """redis-py's own reading of them; its connection is only made, never opened."""
    try:
        return SSLConnection(**options).ssl_context.get()
    except (OSError, TypeError, ValueError, RedisError) as error:  # OSError: a file is missing, or holds something else
        raise ValueError(f"the Redis URL's TLS options ({', '.join(sorted(options))}): {error}") from error
