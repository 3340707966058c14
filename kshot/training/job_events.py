"""What a job's process tells the trainer: lines of a file."""

import os
from pathlib import Path
from typing import Any

from kshot.contracts.jobs import EventKind, JobEvent


class JobEvents:
    """Appends events, each as one whole line by one write. Of several processes only the first one ``speaks``."""

    def __init__(self, file: Path, *, speaks: bool) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if speaks else None

    def emit(self, kind: EventKind, **data: Any) -> None:
        """Raises ValueError for numbers that are not finite: no JSON holds them."""
        if self._file is not None:
            line = JobEvent(kind=kind, data=data).model_dump_json()
            os.write(self._file, line.encode() + b"\n")
