"""CPU seconds and memory of the processes of a server on this machine, by what they do."""

import time
from collections import defaultdict
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

_PATIENCE_S = 5.0
_ROLES = (
    ("postgres", "Postgres"),
    ("valkey", "Valkey"),
    ("redis", "Valkey"),
    ("-m service", "API"),
    ("workers adapt", "worker"),
    ("workers trainer", "trainer"),
)
"""A part of the command line and the name of what it is; the first that fits. Anything else is the server."""


def server_processes(url: str) -> dict[int, str]:
    """Process id -> role, of everything under the topmost process that belongs to the server listening at ``url``."""
    top = _topmost(psutil.Process(_listener(urlsplit(url).port)))
    return {process.pid: _role(process) for process in (top, *top.children(recursive=True))}


def cpu_seconds(url: str) -> dict[str, float]:
    """CPU seconds so far, by role, ended children of a process with it; ``client`` is this process."""
    spent: defaultdict[str, float] = defaultdict(float)
    for pid, role in server_processes(url).items():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent[role] += times.user + times.system + times.children_user + times.children_system
    spent["client"] = time.process_time()
    return dict(spent)


def resident_bytes(url: str, role: str) -> int:
    """Resident memory of the processes of one role."""
    pids = [pid for pid, name in server_processes(url).items() if name == role]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def _listener(port: int | None) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for found in psutil.net_connections(kind="tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid is not None:
                return int(found.pid)
        time.sleep(0.05)
    raise RuntimeError(f"nothing on this machine listens on port {port}")


def _topmost(process: psutil.Process) -> psutil.Process:
    """A supervisor above the listener, where there is one: `standalone`, or uvicorn's own for several processes."""
    parent = process.parent()
    while parent is not None and any(word in " ".join(parent.cmdline()) for word in ("standalone", "uvicorn")):
        process, parent = parent, parent.parent()
    return process


def _role(process: psutil.Process) -> str:
    try:
        line = " ".join((process.name(), *process.cmdline()))
    except psutil.Error:
        return "server"
    return next((role for part, role in _ROLES if part in line), "supervisor" if "standalone" in line else "server")
