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

M = TypeVar("M", bound=Model)

Away = (RedisError, OSError, TimeoutError)
"""Raised by any call while Redis is away; callers treat it as "not delivered", never as a failed task."""

_log = structlog.get_logger()


def read_message(kind: type[M], fields: dict[bytes, bytes], name: bytes) -> M | None:
    """None where the message is gone, or of another version's making: it must not stop the ones behind it."""
    try:
        return kind.model_validate_json(fields[name])
    except (KeyError, ValidationError) as error:
        _log.error("message_unreadable", kind=kind.__name__, error=type(error).__name__)
        return None
