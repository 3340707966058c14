"""The whole service as processes of its own, each of which can be killed, stopped, continued and started again: for
`benchmarks/faults`, in small and in large."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, TextInput, VectorInput
from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, free_port, migrate_and_publish, write_checkpoint

LEASE_S = 3.0
WIDTH = 8
_PATIENCE_S = 180.0
_SETTINGS = {
    "KSHOT_ADMIN_KEY": ADMIN_KEY,
    "KSHOT_DEVICE": "cpu",
    "KSHOT_THREADS": "1",
    "KSHOT_TRAINER_THREADS": "1",
    "KSHOT_LEASE_S": str(LEASE_S),
    "KSHOT_SAVE_S": "0.5",
    "KSHOT_PREDICT_DEADLINE_S": "6",  # so that callers try again, and do not wait a fault out
}


class Part:
    """One process of the service. Its log goes on over all its lives."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command, self._environ, self._log = command, environ, log
        self.process = self._started()

    def start(self) -> None:
        """Start it again, unless it runs."""
        if not self.runs:
            self.process = self._started()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, patience_s: float) -> None:
        """Tell it to end; kill it where it does not: what it computed may be waiting for a Postgres that is away."""
        self.process.terminate()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def worker(self) -> str | None:
        """The id under which it was ready last, as an adaptation worker; None: it never was."""
        ready = [line for line in self._log.read_text(errors="replace").splitlines() if '"worker_ready"' in line]
        return str(json.loads(ready[-1])["worker"]) if ready else None

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]

    def _started(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._command], cwd=CHECKOUT, env=dict(self._environ), stdout=log, stderr=log
            )


@dataclass(frozen=True)
class WholeService:
    """All of it. ``parts``: by name (``api``, ``worker-1`` and so on, ``trainer``)."""

    servers: EmbeddedServers
    parts: dict[str, Part]
    url: str
    folder: Path

    @property
    def database_url(self) -> str:
        return self.servers.database_url

    @property
    def objects(self) -> Path:
        return self.servers.home / "objects"

    @property
    def workers(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name.startswith("worker")]

    def backends(self) -> list[psutil.Process]:
        """The processes of Postgres that serve connections."""
        try:
            children = psutil.Process(self.servers.pid("postgres")).children()
            return [child for child in children if "kshot" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def training(self) -> list[psutil.Process]:
        """The processes that train or compare, below the trainer."""
        try:
            found = psutil.Process(self.parts["trainer"].process.pid).children(recursive=True)
            return [child for child in found if "kshot.training" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def is_whole(self) -> bool:
        """Whether everything is there: each server, each worker, the trainer."""
        try:
            said = httpx.get(f"{self.url}/readyz", timeout=10)
            found = said.json()
            parts = found["parts"]["workers"] >= len(self.workers) and found["parts"]["trainers"] >= 1
            return bool(found["status"] == "ready" and parts)
        except (httpx.HTTPError, json.JSONDecodeError, KeyError):
            return False


@contextmanager
def whole_service(
    folder: Path, *, workers: int = 2, entry: Sequence[str] = ("workers", "adapt")
) -> Iterator[WholeService]:
    """Servers (with fsync, as production has them), API, adaptation workers, trainer; all of it answering.

    ``entry``: what a worker is started by; a control starts one that lacks a safeguard.
    """
    with embedded_servers() as servers:
        port = free_port()
        environ = os.environ | servers.environ | _SETTINGS | {"KSHOT_WORK": str(folder / "work")}
        migrate_and_publish(environ, _write_checkpoints(folder / "checkpoints"))
        commands: dict[str, Sequence[str]] = {"api": ("service", "serve", "--port", str(port))}
        commands |= {f"worker-{n + 1}": tuple(entry) for n in range(workers)}
        commands |= {"trainer": ("workers", "trainer")}
        parts = {name: Part(name, words, environ, folder / f"{name}.log") for name, words in commands.items()}
        service = WholeService(servers, parts, f"http://127.0.0.1:{port}", folder)
        try:
            wait_until(service.is_whole, service)
            yield service
        finally:
            for part in parts.values():
                part.kill()


def wait_until(check: Callable[[], bool], service: WholeService) -> None:
    """Wait for it. Raises RuntimeError with what the parts said last."""
    deadline = time.monotonic() + _PATIENCE_S
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("\n".join(f"{name}: {part.last_words()}" for name, part in service.parts.items()))
        time.sleep(0.1)


def _write_checkpoints(root: Path) -> Path:
    """``near`` and ``plain`` (vectors, closed form), ``steps`` (vectors, gradient learner, states too large for their
    row), ``drawings`` (pictures), ``words`` (texts)."""
    classes, both = ("classification",), ("classification", "regression")
    write_checkpoint(root, "plain", VectorInput(), EncoderSpec(name="identity"), "ridge", both)
    write_checkpoint(root, "near", VectorInput(), EncoderSpec(name="identity"), "protonet", classes)
    mlp = EncoderSpec(name="mlp", options={"hidden": [128, 128]})
    write_checkpoint(root, "steps", VectorInput(width=WIDTH), mlp, "maml", classes)
    drawing = ImageInput(height=28, width=28, channels=1, fit="stretch", invert=True)
    conv4 = EncoderSpec(name="conv4", options={"channels": 8})
    write_checkpoint(root, "drawings", drawing, conv4, "protonet", classes)
    write_checkpoint(root, "words", TextInput(max_chars=200), EncoderSpec(name="text"), "ridge", classes)
    return root
