"""A Postgres of our own: made once, started on a private unix socket, recovered after whatever ended it."""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from standalone.binaries import Program
from standalone.errors import StandaloneError
from standalone.home import lasting_secret
from standalone.parts import Part
from standalone.processes import Command, run
from standalone.unprivileged import Account, private_folder

READY_LINE = 7  # of postmaster.pid, counted from 0: the line pg_ctl reads too
PREDECESSOR_PATIENCE = 30.0  # seconds
_TUNED = {  # for many small commits; nothing here weakens what a commit promises
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # a checkpoint has each page written whole once more: seldom, then
    "min_wal_size": "512MB",  # files of the log are used again, not made and synced anew
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_vacuum_scale_factor": "0.05",  # a task's row is written three times within milliseconds
    "autovacuum_vacuum_cost_limit": "1000",
}


@dataclass(frozen=True)
class Postgres:
    """Where one embedded Postgres lies. The application's role owns its database and is no superuser."""

    program: Program
    servers: Path
    sockets: Path
    log: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.servers / f"postgres-{self.program.major}"

    @property
    def url(self) -> str:
        secret = lasting_secret(self.servers / "kshot-secret")
        return f"postgresql://kshot:{secret}@/kshot?host={quote(str(self.sockets))}"

    def part(self) -> Part:
        return Part(
            command=self._command("postgres", "-D", str(self.data), *self._settings(), on_parent_death=signal.SIGINT),
            label=f"postgres {self.program.version}",
            ready=self._ready,
            prepare=self._prepare,
            stop_signal=signal.SIGINT,  # fast shutdown: does not wait for clients
            stop_patience=30.0,
            attempts=4,  # backends of a killed postmaster may hold its shared memory for a moment
        )

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_error_verbosity": "terse",  # else what it refuses is quoted in its log, row and all
            **_TUNED,
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _command(self, program: str, *arguments: str, on_parent_death: signal.Signals = signal.SIGKILL) -> Command:
        return Command(
            name=program,
            argv=(str(self.program.path / program), *arguments),
            env={"PATH": os.defpath, "LC_ALL": "C"},  # no PG* variable, and no secret of ours
            cwd=self.servers,
            log=self.log,
            account=self.account,
            on_parent_death=on_parent_death,
        )

    def _ready(self, pid: int) -> bool:
        lines = self._pid_file()
        return len(lines) > READY_LINE and lines[0].strip() == str(pid) and lines[READY_LINE].strip() == "ready"

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _prepare(self, _failures: int) -> None:
        self._await_predecessor()
        if not self.data.exists():
            self._make_cluster()

    def _await_predecessor(self) -> None:
        """A killed supervisor's Postgres is still writing its last checkpoint: let it end."""
        deadline = time.monotonic() + PREDECESSOR_PATIENCE
        while (lines := self._pid_file()) and lines[0].isdigit() and self._is_postmaster(int(lines[0])):
            if time.monotonic() > deadline:
                raise StandaloneError(
                    f"Postgres {lines[0]} still runs on {self.data}: end it with kill -INT {lines[0]}"
                )
            time.sleep(0.02)

    def _is_postmaster(self, pid: int) -> bool:
        """Whether ``pid`` works in our data folder; after a reboot the number may be anybody's."""
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/cwd").readlink() == self.data
        except ProcessLookupError:
            return False
        except OSError:
            return not Path("/proc/self").exists()  # no /proc (macOS): believe the file

    def _make_cluster(self) -> None:
        """initdb beside the final place, then one rename: a data folder is whole or absent.

        One sync of everything before the rename, because a sync of each file takes seconds on many disks.
        """
        workshop = self.servers / ".postgres-new"
        shutil.rmtree(workshop, ignore_errors=True)
        private_folder(workshop, self.account)
        data, password = workshop / "data", workshop / "password"
        password.write_text(lasting_secret(self.servers / "postgres-secret"))
        if self.account is not None:
            os.chown(password, self.account.uid, self.account.gid)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-sync")
        run(self._command("initdb", "-D", str(data), "--username=postgres", f"--pwfile={password}", *options))
        (data / "pg_hba.conf").write_text("# kshot: the private unix socket only\nlocal all all scram-sha-256\n")
        secret = lasting_secret(self.servers / "kshot-secret")
        statements = f"CREATE ROLE kshot LOGIN PASSWORD '{secret}'\nCREATE DATABASE kshot OWNER kshot\n"
        run(
            self._command(
                "postgres", "--single", "-c", "exit_on_error=on", "-c", "fsync=off", "-D", str(data), "postgres"
            ),
            statements,
        )
        os.sync()
        data.rename(self.data)
        _sync_folder(self.servers)
        shutil.rmtree(workshop)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
