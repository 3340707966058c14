"""The processes of the sides: each in its own environment, asleep while others work."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OURS = frozenset({"kshot", "flat"})
_TUNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}


class Side:
    """One process of a side. ``ask`` and ``answer`` are apart, so that several can work at the same time."""

    def __init__(self, python: Path, name: str, tuned: bool) -> None:
        # BLAS below numpy and scikit-learn has a pool of threads of its own; nothing measured here gains by it.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | (_TUNED if tuned else {})
        command = [str(python), "-m", "benchmarks.peers.side", name]
        self._name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def ask(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def answer(self) -> float:
        """Seconds that what was asked has taken. Raises RuntimeError where the process has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"side {self._name} ended with exit code {self._process.wait()}")
        return float(json.loads(line)["seconds"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Sides:
    """All processes, started as they are needed. ``peers``: the Python of the peers' environment, None without one."""

    def __init__(self, peers: Path | None) -> None:
        self._peers = peers
        self._started: dict[tuple[str, bool, int], Side] = {}

    def has(self, name: str) -> bool:
        return name in _OURS or self._peers is not None

    def of(self, name: str, processes: int = 1, tuned: bool = False) -> list[Side]:
        """The first ``processes`` of a side."""
        python = Path(sys.executable) if name in _OURS or self._peers is None else self._peers
        for i in range(processes):
            if (name, tuned, i) not in self._started:
                self._started[name, tuned, i] = Side(python, name, tuned)
        return [self._started[name, tuned, i] for i in range(processes)]

    def forget(self) -> None:
        """Free what the processes have prepared."""
        for side in self._started.values():
            side.ask({"do": "forget"})
            side.answer()

    def close(self) -> None:
        for side in self._started.values():
            side.close()


@contextmanager
def started(peers: Path | None) -> Iterator[Sides]:
    sides = Sides(peers)
    try:
        yield sides
    finally:
        sides.close()
