"""An installation is upgraded by one step while callers ask: schema, then processes one by one. Nothing is lost.

The older version is the commit before the newest migration; where there is no history to take it from, this skips.
"""

import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from standalone import embedded_servers
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, Api, migrate_and_publish, run_api, run_process, vector_task
from tests.flow.record_revision import export
from tests.flow.revision_rows import NEWEST

pytestmark = pytest.mark.flow
_QUERY = [[4.0, 0.5, 0.0, 0.0], [-4.0, 0.5, 0.0, 0.0]]
_EACH = 8
"""Answers awaited in each phase."""
_PATIENCE_S = 120


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code from before the newest migration."""
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "log", "--diff-filter=A", "--format=%H"]
    found = subprocess.run([*command, "--", str(NEWEST)], cwd=CHECKOUT, capture_output=True, text=True)
    before = [f"{commit}^" for commit in found.stdout.split()[-1:]] or ["HEAD"]  # one that is not committed yet
    try:
        return export(*before, tmp_path_factory.mktemp("older"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"git does not have {before[0]}, which the older version is: {error}")


@dataclass
class Callers:
    """They adapt and predict, without a pause, by whichever API they are sent to."""

    apis: list[Api]
    answered: list[tuple[str, Any]] = field(default_factory=list)
    _seeds: Iterator[int] = field(default_factory=lambda: count(100))
    _stop: threading.Event = field(default_factory=threading.Event)
    _choosing: threading.Lock = field(default_factory=threading.Lock)
    _busy: list[Api] = field(default_factory=list)

    @contextmanager
    def asking(self, callers: int = 2) -> Iterator[None]:
        with ThreadPoolExecutor(callers) as pool:
            asking = [pool.submit(self._ask_on) for _ in range(callers)]
            try:
                yield
            finally:
                self._stop.set()
            for one in asking:
                one.result()

    def until_more(self, more: int = _EACH) -> None:
        """Until so many more were answered."""
        wanted, deadline = len(self.answered) + more, time.monotonic() + _PATIENCE_S
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline and not self._stop.is_set(), f"{len(self.answered)} of {wanted}"
            time.sleep(0.02)

    def leave(self, api: Api) -> None:
        """Ask it no more; until all that it was asked is answered."""
        with self._choosing:
            self.apis.remove(api)
        deadline = time.monotonic() + _PATIENCE_S
        while api in self._busy:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _ask_on(self) -> None:
        try:
            while not self._stop.is_set():
                with self._choosing:
                    seed = next(self._seeds)
                    api = self.apis[seed % len(self.apis)]
                    self._busy.append(api)
                with api.client(ADMIN_KEY) as client:
                    self.answered.append(ask(client, seed))
                self._busy.remove(api)
        finally:
            self._stop.set()


def ask(client: httpx.Client, seed: int) -> tuple[str, Any]:
    """A new model and its predictions; every other one is waited for by asking again."""
    headers = {"Prefer": "respond-async" if seed % 2 else "wait=60"}
    made = said(client.post("/adapt", json=vector_task(seed, checkpoint="vectors"), headers=headers))
    said(client.get(f"/v1/adapted-models/{made['id']}?wait=60"))
    return made["id"], predictions(client, made["id"])


def predictions(client: httpx.Client, model: str) -> Any:
    return said(client.post("/predict", json={"model": model, "inputs": _QUERY}))["predictions"]


def said(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


@contextmanager
def worker(environ: dict[str, str], log: Path, code: Path) -> Iterator[None]:
    """A worker of a version, ready."""
    with run_process({**environ, "KSHOT_DEVICE": "cpu"}, log, "workers", "adapt", code=code) as process:
        deadline = time.monotonic() + _PATIENCE_S
        while '"worker_ready"' not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.02)
        yield


def test_an_upgrade_under_load_loses_nothing(older: Path, tmp_path: Path):
    with embedded_servers() as servers, ExitStack() as old_api, ExitStack() as old_worker, ExitStack() as newer:
        environ = {**servers.environ, "KSHOT_ADMIN_KEY": ADMIN_KEY}
        migrate_and_publish(environ, older / "checkpoints" / "vectors", older)
        api = old_api.enter_context(run_api(environ, tmp_path, older))
        old_worker.enter_context(worker(environ, tmp_path / "old-worker.log", older))
        with api.client(ADMIN_KEY) as client:
            alone, before = ask(client, 0)
        callers = Callers([api])
        with callers.asking():
            callers.until_more()
            migrate_and_publish(environ, older / "checkpoints" / "vectors")
            callers.until_more()  # the older version on the newer tables
            callers.apis.append(newer.enter_context(run_api(environ, tmp_path)))
            callers.until_more()  # front ends of both versions, and an older worker
            newer.enter_context(worker(environ, tmp_path / "new-worker.log", CHECKOUT))
            callers.until_more()  # both of each
            old_worker.close()
            callers.until_more()  # front ends of both versions, and a newer worker
            callers.leave(api)
            old_api.close()
            callers.until_more()
        (api,) = callers.apis
        with api.client(ADMIN_KEY) as client:
            assert predictions(client, alone) == before, "the same bytes from the older version's state"
            for model, answer in callers.answered:
                for now, then in zip(predictions(client, model), answer, strict=True):
                    assert now["label"] == then["label"]
                    assert now["probabilities"] == pytest.approx(then["probabilities"], rel=1e-4)
            assert len(callers.answered) + 1 == all_models(client)


def all_models(client: httpx.Client) -> int:
    """How many there are; every one was made."""
    found: list[Any] = []
    more = True
    while more:
        after = f"&after={found[-1]['id']}" if found else ""
        page = said(client.get(f"/v1/adapted-models?limit=100{after}"))
        found, more = found + page["data"], page["has_more"]
    assert {model["status"] for model in found} == {"succeeded"}
    return len(found)
