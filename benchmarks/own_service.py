"""A service of the benchmark's own: `python -m standalone serve` on a temporary data folder and a free port."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_START_S = 120


@contextmanager
def own_service() -> Iterator[str]:
    """Yields the URL of a service that is ready; stops it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as home:
        env = os.environ | {"KSHOT_HOME": home, "KSHOT_PORT": str(port), "KSHOT_RATE_PER_MINUTE": "1000000"}
        service = subprocess.Popen([sys.executable, "-m", "standalone", "serve"], env=env, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, service)
            yield url
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=60)


def _wait_until_ready(url: str, service: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise RuntimeError("the service ended while it started; run `make serve` to see why")
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the service was not ready within {_START_S} s")
