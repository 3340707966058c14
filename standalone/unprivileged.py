"""Running the servers without root's rights: which user, which folders that user can reach.

Postgres refuses to run as root. So as root we drop to a user that every system has (no useradd), and never touch the
mode of a folder that is not ours: where the user cannot reach ``KSHOT_HOME`` (``/root`` is 0700), the servers' data
lies in ``/var/lib/kshot/...`` and ``KSHOT_HOME/servers`` links there.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from standalone.errors import StandaloneError
from standalone.home import Home

SYSTEM_USERS = ("postgres", "nobody")
SHARED_DATA = Path("/var/lib/kshot")
LONGEST_SOCKET_FOLDER = 85  # bytes; a socket's path may have 107 on Linux, 103 on macOS, and Postgres adds 14


@dataclass(frozen=True)
class Account:
    """A user to run a server as. ``None`` in its place means: as whoever we are."""

    name: str
    uid: int
    gid: int


def server_account(home: Home) -> Account | None:
    """The user for Postgres and Valkey: ourselves, or as root the owner of earlier data, or a system user.

    Raises:
        StandaloneError: root, and no user to drop to.
    """
    if os.geteuid() != 0:
        return None
    for earlier in sorted(home.servers.glob("postgres-*")):
        if owner := earlier.stat().st_uid:
            return _account(pwd.getpwuid(owner))
    for name in SYSTEM_USERS:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise StandaloneError(
        f"Postgres does not run as root and there is no user {' or '.join(SYSTEM_USERS)} to drop to: "
        "start kshot as another user, or set DATABASE_URL and REDIS_URL"
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether ``account`` may enter (or run) ``path``, asked of the kernel so that every parent and ACL counts."""
    if account is None:
        return os.access(path, os.X_OK)
    question = ["/bin/sh", "-c", '[ -r "$1" ] && [ -x "$1" ]', "sh", str(path)]
    asked = subprocess.run(question, check=False, user=account.uid, group=account.gid, extra_groups=[], cwd="/")
    return asked.returncode == 0


def server_folder(home: Home, account: Account | None) -> Path:
    """The real folder for the servers' data, which ``account`` can reach."""
    if not home.servers.exists():
        if home.servers.is_symlink():
            raise StandaloneError(
                f"{home.servers} points at {home.servers.readlink()}, which is gone: put the data back, "
                f"or remove the link to start with none"
            )
        home.servers.mkdir(mode=0o755)
        if not can_reach(account, home.servers):
            home.servers.rmdir()
            home.servers.symlink_to(_shared_folder(home))
    folder = home.servers.resolve()
    if not can_reach(account, folder):
        raise StandaloneError(
            f"user {account.name if account else os.geteuid()} cannot enter {folder}: "
            "allow it on each parent folder (chmod o+x), or set KSHOT_HOME to another folder"
        )
    return folder


def _shared_folder(home: Home) -> Path:
    SHARED_DATA.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=SHARED_DATA))
    folder.chmod(0o755)
    (folder / "belongs-to").write_text(f"{home.folder}\n")
    return folder


def private_folder(path: Path, account: Account | None) -> Path:
    """Make ``path`` a 0700 folder of ``account``."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)
    return path


def socket_folder(servers: Path, account: Account | None) -> Path:
    """A 0700 folder with a short path for the unix sockets: in the data folder, or where that is too deep, in /tmp."""
    direct = servers / "run"
    plain = re.fullmatch(r"[\w./-]+", str(direct), re.ASCII) is not None  # Postgres splits the setting at commas
    if plain and len(os.fsencode(direct)) <= LONGEST_SOCKET_FOLDER and not direct.is_symlink():
        return private_folder(direct, account)
    owner = account.uid if account else os.geteuid()
    if direct.is_symlink():
        linked = direct.readlink()
        if linked.is_dir() and not linked.is_symlink() and linked.stat().st_uid == owner:
            return private_folder(linked, account)
        direct.unlink()
    elif direct.exists():
        shutil.rmtree(direct)
    short = Path(tempfile.mkdtemp(prefix="kshot-", dir="/tmp"))
    direct.symlink_to(short)
    return private_folder(short, account)
