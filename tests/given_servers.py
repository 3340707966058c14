"""A plugin for many short runs: fixtures take the servers of the environment, migrated and empty, for their own.

`benchmarks.mutation` starts the servers once and gives each run a database of its own.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import standalone


class GivenServers:
    """What tests that break no server use of `EmbeddedServers`."""

    def __init__(self) -> None:
        self.database_url, self.redis_url = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
        self.home = Path(os.environ["KSHOT_HOME"])

    @property
    def environ(self) -> dict[str, str]:
        own = {"KSHOT_HOME": str(self.home), "KSHOT_OBJECTS": str(self.home / "objects")}
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url, **own}


@contextmanager
def _given() -> Iterator[GivenServers]:
    yield GivenServers()


_run = subprocess.run


def _without_migrating(command: Any, *rest: Any, **options: Any) -> Any:
    if list(command[2:]) == ["alembic", "upgrade", "head"]:
        return subprocess.CompletedProcess(command, 0, "", "")
    return _run(command, *rest, **options)


standalone.embedded_servers = _given  # type: ignore[assignment]
subprocess.run = _without_migrating  # type: ignore[assignment]
