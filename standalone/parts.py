"""One long-lived child of the supervisor: how it starts, when it is ready, how it stops."""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from standalone.processes import Command


def _nothing(_failures: int) -> None:
    return None


@dataclass(frozen=True)
class Part:
    """A child that is kept alive.

    ``ready(pid)`` says whether that process serves; it is asked every ``look_every`` seconds until it does;
    without it, running is enough.
    ``prepare(failures)`` runs before each start, with the number of starts in a row that never became ready.
    The first ``attempts`` starts may fail before the supervisor gives up. Patience is in seconds.
    """

    command: Command
    label: str
    ready: Callable[[int], bool] | None = None
    look_every: float = 0.005
    prepare: Callable[[int], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_patience: float = 15.0
    start_patience: float = 60.0
    attempts: int = 1

    @property
    def name(self) -> str:
        return self.command.name
