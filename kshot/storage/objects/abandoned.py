"""Files that writers who died left half-written."""

import time
from pathlib import Path

_ABANDONED_S = 3600


def remove_if_abandoned(file: Path) -> None:
    """Remove it where nobody has written to it for an hour; it may be gone already."""
    try:
        if file.stat().st_mtime < time.time() - _ABANDONED_S:
            file.unlink()
    except FileNotFoundError:
        pass
