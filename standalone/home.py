"""The data folder (``KSHOT_HOME``): what lies where in it, and the lock that keeps a second starter out."""

import fcntl
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from standalone.errors import StandaloneError


@dataclass(frozen=True)
class Home:
    """Paths inside one ``KSHOT_HOME``. The servers' folder may be a link (see ``unprivileged``)."""

    folder: Path

    @property
    def servers(self) -> Path:
        return self.folder / "servers"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    @property
    def cache(self) -> Path:
        """Of copies of objects that lie in a bucket; nothing in it is needed after a stop."""
        return self.folder / "cache"

    @property
    def urls(self) -> Path:
        """A shell file with the URLs of the running stack, for a person's own commands (``set -a; . FILE``)."""
        return self.folder / "env"


class HomeInUse(StandaloneError):
    """Another kshot holds the lock."""


@contextmanager
def locked_home(folder: Path) -> Iterator[Home]:
    """Create ``folder`` where needed and hold its lock.

    Raises:
        HomeInUse: another kshot holds the lock.
        StandaloneError: the folder cannot be used.
    """
    folder = folder.expanduser().absolute()
    home = Home(folder)
    try:
        # 0711, not 0700: servers that run as another user must pass through; what is secret inside has its own mode.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for private in (home.logs, home.objects):
            private.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StandaloneError(f"cannot use {folder} ({error.strerror}): set KSHOT_HOME to a folder of yours") from error
    try:
        _take(lock, folder)
        yield home
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise HomeInUse(
            f"another kshot (process {holder}) already uses {folder}: stop it (kill {holder}), "
            "or give this one a folder of its own with KSHOT_HOME"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def lasting_secret(file: Path) -> str:
    """The 256-bit secret kept in ``file`` (mode 0600); made on first use."""
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    return file.read_text().strip()


def write_private(file: Path, text: str) -> None:
    """Write ``text`` to ``file`` with mode 0600, whole or not at all."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(file)


def write_urls(home: Home, environ: Mapping[str, str]) -> None:
    """Leave the running stack's URLs where a person can source them."""
    names = ("DATABASE_URL", "REDIS_URL", "KSHOT_HOME", "KSHOT_OBJECTS", "KSHOT_CACHE")
    write_private(home.urls, "".join(f"{name}={shlex.quote(environ[name])}\n" for name in names if name in environ))


def read_urls(home: Home) -> dict[str, str]:
    """What a running stack left there.

    Raises:
        StandaloneError: it has not come so far yet.
    """
    try:
        words = shlex.split(home.urls.read_text())
    except FileNotFoundError as error:
        raise StandaloneError(f"the kshot on {home.folder} is only starting: try again when it listens") from error
    return {name: value for name, _, value in (word.partition("=") for word in words)}
