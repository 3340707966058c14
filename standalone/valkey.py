"""A Valkey (or Redis) of our own on a private unix socket, with its append-only file synced every second."""

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from standalone.binaries import Program
from standalone.parts import Part
from standalone.processes import Command
from standalone.unprivileged import Account, private_folder

FAILURES_BEFORE_SETTING_DATA_ASIDE = 2


@dataclass(frozen=True)
class Valkey:
    """Where one embedded Valkey lies. Its data is a convenience: Postgres holds the truth."""

    program: Program
    servers: Path
    sockets: Path
    log: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.servers / "valkey"

    @property
    def socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def part(self) -> Part:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "auto-aof-rewrite-min-size": "512mb",  # else calls that travel whole rewrite it every few seconds
            "no-appendfsync-on-rewrite": "yes",
            "maxmemory": "1gb",  # predict calls travel whole: a full server refuses more, and callers are told 503
            "maxmemory-policy": "noeviction",
        }
        command = Command(
            name="valkey",
            argv=(str(self.program.path), *(word for name, value in options.items() for word in (f"--{name}", value))),
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd=self.servers,
            log=self.log,
            account=self.account,
            on_parent_death=signal.SIGKILL,  # works on a hung one too; what was acknowledged is already with the kernel
        )
        return Part(
            command=command,
            label=f"valkey {self.program.version}",
            ready=self._ready,
            prepare=self._prepare,
            stop_patience=10.0,
            attempts=FAILURES_BEFORE_SETTING_DATA_ASIDE + 2,
        )

    def _prepare(self, failures: int) -> None:
        """Data that Valkey cannot load (a torn file, a newer format) must not keep the service down: nothing accepted
        is lost with it, so it is set aside and Valkey starts empty."""
        if failures == FAILURES_BEFORE_SETTING_DATA_ASIDE and self.data.exists():
            self.data.rename(self.servers / f"valkey-unreadable-{time.time_ns()}")
        private_folder(self.data, self.account)

    def _ready(self, _pid: int) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
