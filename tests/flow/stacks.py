"""The services that tests over HTTP share, in whichever folder they lie: one of each for a whole run.

A plugin, because a fixture of a conftest.py belongs to its folder alone: the folders' conftests import it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.own_service import own_service
from standalone import embedded_servers
from tests.flow.http_stack import ADMIN_KEY, HttpStack, migrate_and_publish, run_api, run_worker, write_checkpoints

_WRONG_CLOCK = """
import time
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {seconds}
time.time_ns = lambda: right_ns() + {seconds} * 10**9
print('{{"event": "clock_moved"}}', flush=True)
"""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def http_stack(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpStack]:
    with open_http_stack(checkpoints, tmp_path_factory.mktemp("http")) as stack:
        yield stack


@contextmanager
def open_http_stack(checkpoints: Path, folder: Path, **settings: str) -> Iterator[HttpStack]:
    """A stack with nothing in it but the checkpoints. ``settings``: of all its processes."""
    with embedded_servers() as servers:
        environ = {**servers.environ, "KSHOT_ADMIN_KEY": ADMIN_KEY, "KSHOT_HEADER_DEADLINE_S": "2", **settings}
        migrate_and_publish(environ, checkpoints)
        with run_api(environ, folder) as api, run_worker(environ, folder, api) as worker:
            stack = HttpStack(servers, api, environ, folder, worker.pid)
            yield stack
            for client in stack._clients:
                client.close()


@pytest.fixture(scope="session")
def page_url() -> Iterator[str]:
    """The service that `make serve` runs, for the examples of the pages."""
    with own_service() as running:
        yield running


def wrong_clock(folder: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is off by so much, as are those of its children; it says so at once."""
    place = folder / str(seconds)
    place.mkdir()
    (place / "sitecustomize.py").write_text(_WRONG_CLOCK.format(seconds=seconds))
    return {"PYTHONPATH": str(place)}
