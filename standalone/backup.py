"""``python -m standalone backup | restore | check``: the same commands of ``python -m workers``, on the data folder."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from standalone.home import Home, HomeInUse, locked_home, read_urls
from standalone.serve import CHECKOUT, say_on_terminal
from standalone.servers import choose_servers
from standalone.supervisor import Supervisor


def operate(command: str, folder: Path, backup: Path | None, environ: Mapping[str, str]) -> int:
    """Run one of these commands on the data folder ``folder``; its exit code, 0 where nothing is amiss.

    Backing up and checking also go where kshot is running on that folder.

    Raises:
        HomeInUse: to be restored while kshot runs there.
        StandaloneError: Postgres does not start.
    """
    words = [command, *([] if backup is None else [str(backup.absolute())])]
    try:
        with locked_home(folder) as home:
            return _with_servers(home, words, environ)
    except HomeInUse:
        if command == "restore":
            raise
        return _run(words, {**environ, **read_urls(Home(folder.expanduser().absolute()))})


def _with_servers(home: Home, words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start Postgres, run the command, stop Postgres."""
    servers = choose_servers(home, environ)
    parts = [part for part in servers.parts if part.name == "postgres"]
    own = {
        "DATABASE_URL": servers.database_url,
        "KSHOT_OBJECTS": environ.get("KSHOT_OBJECTS") or str(home.objects),
        "KSHOT_CACHE": environ.get("KSHOT_CACHE") or str(home.cache),
    }
    with Supervisor(say_on_terminal) as supervisor:
        supervisor.start(parts)
        supervisor.wait_ready(part.name for part in parts)
        return _run(words, {**environ, **own})


def _run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    argv = [sys.executable, "-m", "workers", *words]
    return subprocess.run(argv, env=dict(environ), cwd=CHECKOUT, check=False).returncode
