"""A reference server as processes of its own: uvicorn, an app, a free port, so many workers and threads."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
_START_S = 60


@dataclass(frozen=True)
class Reference:
    """``app``: module under this folder. ``threads``: of BLAS and torch; None leaves them as they come."""

    app: str
    workers: int = 1
    threads: int | None = None
    python: str = field(default=sys.executable)


@contextmanager
def running(reference: Reference) -> Iterator[str]:
    """Yields the URL of the server; stops it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = f"benchmarks.serving.references.{reference.app}:app"
    command = [reference.python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(reference.workers), "--no-access-log"]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            command, cwd=CHECKOUT, env=os.environ | _environment(reference), stdout=said, stderr=said
        )
        try:
            _wait_until_answering(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def _environment(reference: Reference) -> Mapping[str, str]:
    where = {"PYTHONPATH": str(CHECKOUT)}
    if reference.threads is None:
        return where
    threads = str(reference.threads)
    return where | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "THREADS"), threads)


def _wait_until_answering(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/openapi.json", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the reference server did not start: {server.args!r}")
