"""A service of the benchmark's own: `python -m standalone serve` on a temporary data folder and a free port."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_START_S = 180


@contextmanager
def own_service(**settings: str) -> Iterator[str]:
    """Yields the URL of a service that is ready; stops it at the end. ``settings``: of the environment, on top."""
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
        try:
            with service_on(Path(folder), **settings) as url:
                yield url
        finally:
            _remove_data_elsewhere(Path(folder))


def _remove_data_elsewhere(folder: Path) -> None:
    """As root the servers' data lies outside of the home, which links to it (`standalone.unprivileged`)."""
    servers = folder / "home" / "servers"
    if servers.is_symlink():
        shutil.rmtree(servers.resolve(), ignore_errors=True)


@contextmanager
def service_on(folder: Path, **settings: str) -> Iterator[str]:
    """The same on a data folder of the caller's, which stays."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = folder / "said"
    own = {"KSHOT_HOME": f"{folder}/home", "KSHOT_PORT": str(port), "KSHOT_RATE_PER_MINUTE": "1000000"}
    with said.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "standalone", "serve"], env=os.environ | own | settings, stdout=output, stderr=output
        )
    try:
        _wait_until_listening(said, service)
        _wait_for_workers(f"http://127.0.0.1:{port}", int((os.environ | settings).get("KSHOT_WORKERS") or 1))
        yield f"http://127.0.0.1:{port}"
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=120)


def _wait_until_listening(said: Path, service: "subprocess.Popen[bytes]") -> None:
    """Until it says where it listens: only then are the checkpoints published and the self-check done."""
    deadline = time.monotonic() + _START_S
    while "listening at" not in said.read_text():
        if service.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service did not start:\n{said.read_text()}")
        time.sleep(0.1)


def _wait_for_workers(url: str, workers: int) -> None:
    """It listens as soon as one worker is there; the others would start up at the cost of what is measured."""
    deadline = time.monotonic() + _START_S
    while httpx.get(f"{url}/readyz").json()["parts"]["workers"] < workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all of {workers} workers started")
        time.sleep(0.1)
