"""What both sides of the queue share: names, the connection, errors that mean "Redis is away"."""

from typing import TypeVar, cast

import structlog
from pydantic import ValidationError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kshot.contracts.model import Model

ADAPT_STREAM = "kshot:adapt"
PREDICT_STREAM = "kshot:predict"
GROUP = "workers"
REPLY_PREFIX = "kshot:reply:"

_CONNECTIONS = 16

M = TypeVar("M", bound=Model)

Messages = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries of one stream: (message id, fields)."""

Away = (RedisError, OSError, TimeoutError)
"""Raised by any call while Redis is away; callers treat it as "not delivered", never as a failed task."""

_log = structlog.get_logger()


def open_redis(url: str, *, blocking: bool = False) -> Redis:
    """A connection pool. A ``blocking`` one waits in XREADGROUP / XREAD, so its socket timeout must be longer than
    the block (2 s); the other must notice a hung server within a second, because requests wait on it. The pool is
    bounded: a burst of calls shares a few connections instead of opening one each."""
    timeout = 10 if blocking else 1
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=1,
        socket_timeout=timeout,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 1),
        protocol=2,
    )
    client: Redis = Redis.from_pool(pool)
    return client


def by_stream(answer: object) -> list[tuple[bytes, Messages]]:
    """What XREAD and XREADGROUP answer under protocol 2, typed (redis-py leaves it open); None becomes empty."""
    return cast(list[tuple[bytes, Messages]], answer or [])


def read_message(kind: type[M], fields: dict[bytes, bytes], name: bytes) -> M | None:
    """None where the message is gone, or of another version's making: it must not stop the ones behind it."""
    try:
        return kind.model_validate_json(fields[name])
    except (KeyError, ValidationError) as error:
        _log.error("message_unreadable", kind=kind.__name__, error=type(error).__name__)
        return None
