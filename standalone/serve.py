"""``python -m standalone serve``: one command to a ready kshot, and one Ctrl-C to none."""

import errno
import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from standalone.errors import StandaloneError
from standalone.home import Home, write_urls
from standalone.parts import Part
from standalone.processes import Command, last_lines
from standalone.self_check import curl
from standalone.servers import choose_servers
from standalone.supervisor import StopAsked, Supervisor

CHECKOUT = Path(__file__).resolve().parents[1]
DEVICES = ("auto", "cpu", "cuda")
LOOPBACK = "127.0.0.1"
MOST_WORKERS = 64
MOST_USUAL_WORKERS = 8


@dataclass(frozen=True)
class Settings:
    """What ``make serve`` honours, read from the environment."""

    port: int
    device: str
    workers: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """``KSHOT_PORT``, ``KSHOT_DEVICE`` and ``KSHOT_WORKERS``, checked.

    Raises:
        StandaloneError: a value makes no sense, or the port is taken.
    """
    port, device = environ.get("KSHOT_PORT") or "8000", environ.get("KSHOT_DEVICE") or "auto"
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise StandaloneError(f"KSHOT_PORT={port} is no port: give a number from 1 to 65535")
    if device not in DEVICES:
        raise StandaloneError(f"KSHOT_DEVICE={device} is none of {', '.join(DEVICES)}")
    workers = environ.get("KSHOT_WORKERS") or str(_usual_workers(device))
    if not workers.isascii() or not workers.isdigit() or not 0 < int(workers) <= MOST_WORKERS:
        raise StandaloneError(f"KSHOT_WORKERS={workers} is no number from 1 to {MOST_WORKERS}")
    return Settings(int(port), device, int(workers))


def _usual_workers(device: str) -> int:
    """One for a GPU; else one for every other core: the API and Postgres need as much, and more workers than can run
    only share the tasks out into smaller batches (2 cores, 64 callers of `vectors`: 324/s with one, 248/s with two)."""
    on_gpu = device == "cuda" or (device == "auto" and Path("/dev/nvidia0").exists())
    return 1 if on_gpu else min(max(_cores() // 2, 1), MOST_USUAL_WORKERS)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_port(port: int, patience: float = 2.0) -> None:
    """Make sure that we can listen on ``port``; waits a moment for the child of a killed predecessor to go.

    Raises:
        StandaloneError: the port is taken, or not for us.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                raise StandaloneError(
                    f"port {port} {reason}: choose another with KSHOT_PORT (KSHOT_PORT={port + 1} make serve)"
                ) from error
            time.sleep(0.05)


def serve(home: Home, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run everything until a stop signal.

    Raises:
        StandaloneError: some part does not start; the rest has been stopped.
    """
    settings = read_settings(environ)
    check_port(settings.port)
    servers = choose_servers(home, environ)
    stack = _Stack(home, settings, _environment(home, settings, environ, servers.database_url, servers.redis_url))
    started = time.monotonic()
    say(f"data and logs: {home.folder}")
    for name in ("DATABASE_URL", "REDIS_URL"):
        if environ.get(name):
            say(f"{name} is set: using that server instead of starting one")
    with Supervisor(say) as supervisor:
        try:
            supervisor.start(servers.parts)
            supervisor.wait_ready(part.name for part in servers.parts)
            write_urls(home, stack.environ)
            _bring_up(supervisor, stack, say)
            say(f"ready after {time.monotonic() - started:.1f} s")
            say(f"listening at {settings.url} (Ctrl-C stops it)")
            say(f"open it in a browser, or try:\n\n{curl(settings.url)}\n")
            while True:
                supervisor.watch()
        except StopAsked:
            say("stopping")


def _bring_up(supervisor: Supervisor, stack: "_Stack", say: Callable[[str], None]) -> None:
    """Migrate; then checkpoints, API and a worker side by side; then the self-check, and what nobody waits for: further
    workers and the trainer."""
    started = time.monotonic()
    supervisor.run_once(stack.migrate)
    say(f"database: migrated in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    publishing = supervisor.begin_once(stack.publish)
    supervisor.start((stack.worker, stack.api))  # stopped in the reverse order: no new work, then drain
    supervisor.finish_once(publishing, stack.publish)
    say(f"checkpoints: published in {time.monotonic() - started:.1f} s")
    supervisor.wait_ready((stack.api.name, stack.worker.name))
    try:
        supervisor.run_once(stack.self_check)
    except StandaloneError:
        say(f"the service is up, but look at it before you trust it (logs: {stack.home.logs})")
    say(last_lines(stack.self_check.log, 1).strip())
    supervisor.start((*stack.more_workers, stack.trainer))


def _environment(
    home: Home, settings: Settings, environ: Mapping[str, str], database_url: str, redis_url: str
) -> dict[str, str]:
    """What kshot's own processes run with: everything of ours, and the URLs."""
    return {
        **environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "KSHOT_HOME": str(home.folder),
        "KSHOT_OBJECTS": environ.get("KSHOT_OBJECTS") or str(home.objects),
        "KSHOT_CACHE": environ.get("KSHOT_CACHE") or str(home.cache),
        "KSHOT_PORT": str(settings.port),
        "KSHOT_DEVICE": settings.device,
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(frozen=True)
class _Stack:
    """kshot's own commands, each with its log."""

    home: Home
    settings: Settings
    environ: Mapping[str, str]

    def _command(self, name: str, *words: str) -> Command:
        argv = (sys.executable, *words)
        return Command(name, argv, self.environ, cwd=CHECKOUT, log=self.home.logs / f"{name}.log")

    @property
    def migrate(self) -> Command:
        return self._command("migrate", "-m", "alembic", "upgrade", "head")

    @property
    def publish(self) -> Command:
        return self._command("publish", "-m", "workers", "publish", "checkpoints")

    @property
    def self_check(self) -> Command:
        return self._command("self-check", "-m", "standalone.self_check", self.settings.url)

    @property
    def api(self) -> Part:
        words = ("-m", "service", "serve", "--host", LOOPBACK, "--port", str(self.settings.port))
        return Part(
            self._command("api", *words),
            label="api",
            ready=lambda _pid: _readiness(self.settings.url) is not None,
            look_every=0.05,
            start_patience=120.0,
            attempts=2,
        )

    @property
    def worker(self) -> Part:
        return Part(
            self._command("worker", "-m", "workers", "adapt"),
            label="worker",
            ready=lambda _pid: _readiness(self.settings.url) == "ready",
            look_every=0.1,
            start_patience=120.0,
            stop_patience=35.0,
            attempts=2,
        )

    @property
    def more_workers(self) -> list[Part]:
        names = [f"worker-{number + 1}" for number in range(1, self.settings.workers)]
        commands = [self._command(name, "-m", "workers", "adapt") for name in names]
        return [Part(command, label=command.name, stop_patience=35.0) for command in commands]

    @property
    def trainer(self) -> Part:
        command = self._command("trainer", "-m", "workers", "trainer")
        return Part(command, label="trainer", stop_patience=35.0)


def _readiness(url: str) -> str | None:
    """What ``/readyz`` says: None while the API cannot accept, "degraded" without a worker, "ready" with one."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 (our own loopback)
            return str(json.load(answer)["status"])
    except (OSError, ValueError, KeyError):
        return None


def say_on_terminal(line: str) -> None:
    """A status line; a terminal that has gone away is no reason to stop serving."""
    try:
        print(f"kshot {time.strftime('%H:%M:%S')}  {line}", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
