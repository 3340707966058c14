"""What objects are called, and the digest they are checked by."""

import hashlib
import re

_KEY = re.compile(r"[a-z]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


def checked(key: str) -> str:
    """The key itself. Raises ValueError where the server cannot have made it: a step up, an absolute path, a URL."""
    if not _KEY.fullmatch(key):
        raise ValueError("not an object key")
    return key


def state_key(task_id: str, attempt: int) -> str:
    """Where the state that an attempt made lies: a key of its own, so that two attempts never write one object."""
    return f"states/{task_id}-{attempt}.safetensors"


def state_keys(task_id: str, attempts: int) -> list[str]:
    """Where the states of a task's first ``attempts`` attempts may lie."""
    return [state_key(task_id, attempt + 1) for attempt in range(attempts)]


def sha256(blob: bytes) -> str:
    """The hex digest by which stored blobs are checked when they are read back."""
    return hashlib.sha256(blob).hexdigest()
