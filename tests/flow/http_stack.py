"""The service as callers meet it: real servers, one API process, one worker process, tiny checkpoints."""

import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import (
    EncoderSpec,
    ImageInput,
    InputSpec,
    LearnerSpec,
    Lineage,
    Manifest,
    TextInput,
    VectorInput,
)
from kshot.encoders.registry import build_encoder
from kshot.learners.registry import get_learner
from standalone import EmbeddedServers

CHECKOUT = Path(__file__).parents[2]
ADMIN_KEY = "an admin key for tests, of 32 characters and more"
PYTHON = [sys.executable, "-m"]


def write_checkpoints(root: Path) -> Path:
    """``plain`` (vectors of any width, both kinds of task), ``quads`` (vectors of four), ``drawings`` and ``sketches``
    (28 x 28 and 16 x 16 images), ``lines`` (one number in, one out, gradient learner) and ``words`` (texts)."""
    both = ("classification", "regression")
    write_checkpoint(root, "plain", VectorInput(), EncoderSpec(name="identity"), "ridge", both)
    drawing = ImageInput(height=28, width=28, channels=1, fit="stretch", invert=True)
    write_checkpoint(
        root, "drawings", drawing, EncoderSpec(name="conv4", options={"channels": 8}), "protonet", both[:1]
    )
    sketch = drawing.model_copy(update={"height": 16, "width": 16})
    write_checkpoint(root, "sketches", sketch, EncoderSpec(name="conv4", options={"channels": 8}), "ridge", both[:1])
    mlp = EncoderSpec(name="mlp", options={"hidden": [16, 16]})
    write_checkpoint(root, "quads", VectorInput(width=4), mlp, "ridge", both)
    write_checkpoint(root, "lines", VectorInput(width=1), mlp, "maml", both[1:], n_targets=1)
    write_checkpoint(root, "words", TextInput(max_chars=200), EncoderSpec(name="text"), "ridge", both[:1])
    return root


def write_checkpoint(
    root: Path,
    name: str,
    inputs: InputSpec,
    encoder: EncoderSpec,
    learner: str,
    tasks: Any,
    n_targets: int | None = None,
) -> None:
    """An untrained checkpoint as a folder ``root / name``, ready to publish."""
    torch.manual_seed(0)
    network = build_encoder(encoder, inputs)
    head = get_learner(learner).init_head(network, tasks[0], n_targets, torch.Generator().manual_seed(0))
    manifest = Manifest(
        name=name,
        description="for tests",
        tasks=tasks,
        input=inputs,
        encoder=encoder,
        learner=LearnerSpec(name=learner),
        n_targets=n_targets,
        lineage=Lineage(command="tests", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    save_checkpoint(root / name, Checkpoint(manifest, network.eval(), head))


def migrate_and_publish(environ: Mapping[str, str], checkpoints: Path, code: Path = CHECKOUT) -> None:
    """What an operator runs before the first start. ``code``: of a version, here and below."""
    for command in (["alembic", "upgrade", "head"], ["workers", "publish", str(checkpoints)]):
        subprocess.run([*PYTHON, *command], cwd=code, env={**os.environ, **environ}, check=True)


@contextmanager
def run_process(
    environ: Mapping[str, str], log: Path, *command: str, code: Path = CHECKOUT
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of ours, ended with SIGTERM."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*PYTHON, *command], cwd=code, env={**os.environ, **environ}, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Api:
    """A running API process."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A client with this key."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, **options)


@dataclass(frozen=True)
class HttpStack:
    """A stack whose tenants need keys; the bootstrap admin key belongs to the default tenant."""

    servers: EmbeddedServers
    api: Api
    environ: dict[str, str]
    folder: Path
    worker_pid: int = 0
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, key: str | None = ADMIN_KEY) -> httpx.Client:
        """A client with this key (None: without one)."""
        client = self.api.client(key)
        self._clients.append(client)
        return client

    def key(self, tenant: str, role: str = "user", **options: object) -> dict[str, str]:
        """A fresh key for a tenant, made over the API; ``key`` is its secret."""
        with self.api.client(ADMIN_KEY) as admin:
            body = {"name": "test", "tenant": tenant, "role": role, **options}
            answer = admin.post("/v1/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, str] = answer.json()
        return made

    def tenant(self, name: str) -> httpx.Client:
        """A client of a tenant."""
        return self.client(self.key(name)["key"])


@contextmanager
def run_api(environ: Mapping[str, str], folder: Path, code: Path = CHECKOUT) -> Iterator[Api]:
    """``python -m service serve`` on a free port, answering."""
    port = free_port()
    log = folder / f"api-{port}.log"
    with run_process(environ, log, "service", "serve", "--port", str(port), code=code) as process:
        api = Api(f"http://127.0.0.1:{port}", process, log)
        _until(api, process, lambda: httpx.get(f"{api.url}/healthz").status_code == 200)
        yield api


@contextmanager
def run_worker(
    environ: Mapping[str, str], folder: Path, api: Api, code: Path = CHECKOUT
) -> Iterator["subprocess.Popen[bytes]"]:
    """``python -m workers adapt``, seen by the API."""
    log, computing = folder / "worker.log", {**environ, "KSHOT_DEVICE": "cpu", "KSHOT_THREADS": "1"}
    with run_process(computing, log, "workers", "adapt", code=code) as process:
        _until(
            Api(api.url, process, log), process, lambda: httpx.get(f"{api.url}/readyz").json()["parts"]["workers"] > 0
        )
        yield process


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(api: Api, process: "subprocess.Popen[bytes]", check: Any) -> None:
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None, f"ended:\n{api.log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, f"not ready:\n{api.log.read_text()[-4000:]}"
        try:
            if check():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def vector_task(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """An adapt request of two far-apart classes for ``plain``; other seeds, other vectors."""
    rng = np.random.default_rng(seed)
    shift = np.array([5.0, 0.0, 0.0, 0.0])
    inputs = [*(rng.normal(size=(3, 4)) - shift), *(rng.normal(size=(3, 4)) + shift)]
    support = {"inputs": [row.round(4).tolist() for row in inputs], "labels": ["left"] * 3 + ["right"] * 3}
    return {"checkpoint": "plain", "support": support, **changes}


def drawing_file(seed: int, *, size: int = 40) -> bytes:
    """A PNG: dark noise on light paper."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def assert_problem(answer: httpx.Response, status: int, code: str | None = None, param: str | None = None) -> None:
    """RFC 9457, with what a caller needs and nothing it must not see."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["request_id"] == answer.headers["x-request-id"]
    assert problem["title"] and problem["detail"] and problem["code"]
    for secret in ("Traceback", "site-packages", "SELECT", "/work/", "/tmp/", ADMIN_KEY):
        assert secret not in answer.text
    if code is not None:
        assert problem["code"] == code, problem
    if param is not None:
        assert problem["param"] == param, problem
