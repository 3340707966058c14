"""Run as a script: reads ``+ PID SIGNAL`` and ``- PID 0`` lines, and when the pipe closes signals what remains."""

import os
import sys
from collections.abc import Iterable


def remaining(lines: Iterable[str]) -> dict[int, int]:
    """The pids (and their signals) that were added and never taken back."""
    watched: dict[int, int] = {}
    for line in lines:
        sign, pid, signal_number = line.split()
        if sign == "+":
            watched[int(pid)] = int(signal_number)
        else:
            watched.pop(int(pid), None)
    return watched


def main() -> None:
    for pid, signal_number in remaining(sys.stdin).items():
        try:
            os.killpg(pid, signal_number)  # each child leads a group of its own
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
