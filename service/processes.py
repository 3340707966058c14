"""Several API processes behind one port: a parent that opens it, starts them, and replaces whichever ends.

Each is a whole front end with its own reply stream and its own connections to Postgres (``KSHOT_DATABASE_CONNECTIONS``
each; Postgres takes 100 in all unless told otherwise) and Redis (three each). A request goes to whichever accepts it
first; rates, keys and models are the same for all. How many calls may wait, each bounds by itself (`service/gate.py`).
`/metrics` counts what all of them have served: they share a folder (`service/metrics.py`).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from service.logs import log
from service.metrics import FOLDER

_SHORT_LIFE_S = 5.0
_PAUSE_S = 1.0
_LOOK_S = 0.1


def supervise(host: str, port: int, count: int, patience_s: float) -> int:
    """Run ``count`` processes until SIGTERM or SIGINT, then let them answer what is under way.

    Returns the exit code: 1 where the port cannot be opened, that of a process that ended by itself before any served
    for long (nothing can be served then), else 0. A child whose parent is gone, however it went, ends too: its standard
    input is a pipe from here.
    """
    stopping = _Stopping()
    try:
        opened = _open_port(host, port)
    except OSError as error:
        log.error("cannot_listen", host=host, port=port, reason=error.strerror)
        return 1
    with opened as shared, tempfile.TemporaryDirectory(prefix="kshot-metrics-") as counts:
        children = [_Child(shared, counts) for _ in range(count)]
        try:
            while not stopping.asked:
                code = _replace_ended(children, shared, counts)
                if code is not None:
                    return code
                time.sleep(_LOOK_S)
        finally:
            _stop(children, patience_s)
    return 0


class _Stopping:
    """Whether a signal asked us to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


class _Child:
    """One API process. ``counts``: the folder in which all of them count."""

    def __init__(self, shared: socket.socket, counts: str) -> None:
        number = shared.fileno()
        command = [sys.executable, "-m", "service", "serve", "--socket", str(number)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 (our own)
            command,
            stdin=subprocess.PIPE,
            pass_fds=[number],
            start_new_session=True,
            env={**os.environ, FOLDER: counts},
        )

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started


def _open_port(host: str, port: int) -> socket.socket:
    """Bound, but not listening: nobody connects before the first process is there to answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shared = socket.socket(family)
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # as asyncio does where one process opens it
            shared.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        shared.bind((host, port))
    except OSError:
        shared.close()
        raise
    return shared


def _replace_ended(children: list[_Child], shared: socket.socket, counts: str) -> int | None:
    """The exit code where one gave up right after its start and none has lived longer: another try would end alike."""
    for i, child in enumerate(children):
        code = child.process.poll()
        if code is None:
            continue
        short = child.age_s < _SHORT_LIFE_S
        if short and code > 0 and all(other.age_s < _SHORT_LIFE_S for other in children):
            return code
        log.warning("api_process_ended", code=code, replaced=True)
        mark_process_dead(child.process.pid, counts)  # type: ignore[no-untyped-call]
        if short:
            time.sleep(_PAUSE_S)
        children[i] = _Child(shared, counts)
    return None


def _stop(children: list[_Child], patience_s: float) -> None:
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + patience_s
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
