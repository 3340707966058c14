"""What callers were told and which faults there were, as it happened: one JSON object a line, only appended."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Told:
    """An answer, or that there was none.

    ``sent`` and ``at``: when the request went out and the answer was there, seconds since the ledger was opened.
    ``act``: what the caller was about (``adapt``, ``predict``, ...); ``about``: everything needed to ask again.
    ``status`` None: no answer; ``body`` is then the name of the error. ``body``: the very text of the answer.
    """

    caller: str
    tenant: str
    act: str
    about: dict[str, Any]
    sent: float
    at: float
    status: int | None
    body: str

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body of an accepted request."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Happened:
    """A fault: its kind, what it hit, and from when to when it lasted, on the clock of the answers."""

    kind: str
    target: str
    begun: float
    ended: float


@dataclass(frozen=True)
class Ended:
    """A part of the service that nobody killed, and the last line of its log."""

    target: str
    at: float
    words: str


Entry = Told | Happened | Ended


class Ledger:
    """Open for appending; one process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._start = time.monotonic()
        self.accepted = 0
        """Answers that accepted something, so far."""

    def now(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._start

    def note(self, entry: Entry) -> None:
        """Add a line."""
        self.accepted += isinstance(entry, Told) and entry.is_accepted
        self._file.write(json.dumps({"entry": type(entry).__name__, **asdict(entry)}) + "\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Entry]:
    """The entries, as they were written."""
    kinds: dict[str, type[Entry]] = {"Told": Told, "Happened": Happened, "Ended": Ended}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = json.loads(line)
            yield kinds[fields.pop("entry")](**fields)
