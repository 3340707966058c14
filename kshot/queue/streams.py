"""What both sides of the queue share: names, messages, errors that mean "Redis is away"."""

from typing import TypeVar

import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from kshot.contracts.model import Model

ADAPT_STREAM = "kshot:adapt"
PREDICT_STREAM = "kshot:predict"
GROUP = "workers"
REPLY_PREFIX = "kshot:reply:"
PARKED_PREFIX = "kshot:parked:"

VERSION = "1"
"""Of messages, in the field ``v`` beside them; none is the first. It goes up with every change of a message's fields,
or of the payload's encoding, that a process from before it would not understand."""
READABLE = frozenset({VERSION})
"""What this process understands. A release that reads a new version comes before the one that sends it, which still
reads the old one: then neighbouring releases understand each other, and parking is for those that skip one."""
SENT_AT = b"sent_at"
"""Of a message that was parked: when it was sent first, in milliseconds, as its own id said."""

_DIGITS = 20
"""Of a time in milliseconds: as many as 64 bits have."""

M = TypeVar("M", bound=Model)

Away = (RedisError, OSError, TimeoutError)
"""Raised by any call while Redis is away; callers treat it as "not delivered", never as a failed task."""

_log = structlog.get_logger()


def version_of(fields: dict[bytes, bytes]) -> str:
    """As the sender states it."""
    return fields.get(b"v", b"1").decode(errors="replace")[:20]


def sent_ms(message: bytes, fields: dict[bytes, bytes]) -> int:
    """When a message was sent, by Redis' clock: as its id tells, unless it was parked since. Who writes to the stream
    besides us may put anything there, and that counts for nothing."""
    told = fields.get(SENT_AT, b"")
    return int(told) if told.isdigit() and len(told) <= _DIGITS else int(message.split(b"-")[0])


def read_message(kind: type[M], fields: dict[bytes, bytes], name: bytes) -> M | None:
    """None where the message is gone, or cannot be read: it must not stop the ones behind it."""
    version = version_of(fields)
    if version not in READABLE:
        _log.warning("message_of_another_version", kind=kind.__name__, version=version, readable=sorted(READABLE))
        return None
    try:
        return kind.model_validate_json(fields[name])
    except (KeyError, ValidationError) as error:
        _log.error("message_unreadable", kind=kind.__name__, error=type(error).__name__)
        return None
