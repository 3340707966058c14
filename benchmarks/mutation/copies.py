"""Where mutants run: a copy of the commit, servers that stay, and for each run a fresh database and an empty Redis."""

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from redis import Redis
from sqlalchemy import make_url

_TEMPLATE, _FRESH = "migrated", "mutant"


@contextmanager
def copy_of(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    archive = subprocess.run(["git", "archive", commit], check=True, capture_output=True).stdout
    with TemporaryDirectory(prefix="kshot-mutants-") as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


class Servers:
    """Running servers; `renewed` gives what tests need to use them."""

    def __init__(self, given: dict[str, Any], home: Path) -> None:
        self._url, self._redis_url = str(given["database_url"]), str(given["redis_url"])
        self._home = home

    def migrate(self, copy: Path) -> None:
        """Make the database that each run gets a copy of."""
        for setting in ("fsync", "autovacuum"):  # nothing here crashes, or lasts
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()", f"CREATE DATABASE {_TEMPLATE} OWNER kshot")
        environ = {**os.environ, "DATABASE_URL": self._with(database=_TEMPLATE)}
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=copy, env=environ, check=True)

    def renewed(self) -> dict[str, str]:
        """Nothing of the run before is left; the environment for the next."""
        made = f"CREATE DATABASE {_FRESH} TEMPLATE {_TEMPLATE} OWNER kshot"
        self._run(f"DROP DATABASE IF EXISTS {_FRESH} WITH (FORCE)", made)
        with Redis.from_url(self._redis_url) as redis:
            redis.flushall()
        return {
            "DATABASE_URL": self._with(database=_FRESH),
            "REDIS_URL": self._redis_url,
            "KSHOT_HOME": str(self._home),
        }

    def _with(self, **parts: str) -> str:
        return make_url(self._url).set(**parts).render_as_string(hide_password=False)

    def _run(self, *statements: str) -> None:
        """As the superuser."""
        secret = (self._home / "servers" / "postgres-secret").read_text()

        async def run() -> None:
            connection = await asyncpg.connect(self._with(username="postgres", password=secret, database="postgres"))
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Postgres and Valkey below a temporary folder."""
    with TemporaryDirectory(prefix="kshot-home-") as home:
        Path(home).chmod(0o711)
        command = [sys.executable, "-m", "standalone", "servers", "--until-stdin-closes"]
        environ = {**os.environ, "KSHOT_HOME": home}
        process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Servers(json.loads(process.stdout.readline()), Path(home))
        finally:
            process.stdin.close()
            process.wait()
