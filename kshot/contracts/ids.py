"""Prefixed ULIDs: sortable by creation time, and the prefix says what the id names."""

import re
from datetime import datetime
from typing import Literal

from ulid import ULID

Prefix = Literal["am", "ckpt", "task", "pred", "key", "ten", "job", "ds", "evt", "pro", "fb", "req", "wrk"]

_PATTERN = re.compile(r"([a-z]{2,4})_[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_id(prefix: Prefix, at: datetime | None = None) -> str:
    """A fresh id such as ``am_01J9ZK3V7Q8W5R2M4N6P0T1XYA``, of something that is made now, or was made ``at``."""
    return f"{prefix}_{ULID() if at is None else ULID.from_datetime(at)}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Whether ``text`` is a well-formed id of that kind. Anything else can be answered 404 without a query."""
    match = _PATTERN.fullmatch(text)
    return match is not None and match.group(1) == prefix
