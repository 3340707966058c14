"""An administrator at the HTTP API: uploads data sets, runs jobs and watches them, promotes."""

import json
import time
from pathlib import Path
from typing import Any

import httpx

_PATIENCE_S = 600


class Admin:
    """One connection pool. ``key`` only where the service asks for one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_PATIENCE_S)

    def close(self) -> None:
        self._http.close()

    def upload(
        self, settings: dict[str, Any], file: Path, splits: dict[str, list[str]] | None = None
    ) -> dict[str, Any]:
        """A data set from a file."""
        parts: dict[str, Any] = {"request": (None, json.dumps(settings)), "file": (file.name, file.read_bytes())}
        if splits is not None:
            parts["splits"] = ("splits.json", json.dumps(splits))
        return self._checked(self._http.post("/v1/datasets", files=parts))

    def recorded(self, name: str, checkpoint: str) -> dict[str, Any]:
        """A data set of the tasks recorded on a checkpoint."""
        body = {"name": name, "source": "recorded-tasks", "checkpoint": checkpoint}
        return self._checked(self._http.post("/v1/datasets", json=body))

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a job and watch its events to the end; returns the job. RuntimeError where it does not succeed."""
        job = self._checked(self._http.post("/v1/training-jobs", json=request))
        path, started = f"/v1/training-jobs/{job['id']}", time.monotonic()
        stream = {"Accept": "text/event-stream"}
        with self._http.stream("GET", f"{path}/events", headers=stream, timeout=None) as events:
            for line in events.iter_lines():
                if line.startswith("data:"):
                    print(
                        f"  {time.monotonic() - started:6.0f} s  {line.removeprefix('data:').strip()[:160]}", flush=True
                    )
        job = self._checked(self._http.get(path))
        if job["status"] != "succeeded":
            raise RuntimeError(f"the job ended as {job['status']}: {job['error']}")
        return job

    def promote(self, alias: str, checkpoint: str, **options: Any) -> httpx.Response:
        """Point an alias at a checkpoint; the answer as it is, also where the gate refuses."""
        body = {"checkpoint": checkpoint, **options}
        return self._http.put(f"/v1/aliases/{alias}", json=body, headers={"Prefer": "wait=60"})

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Any other call."""
        return self._checked(self._http.request(method, path, json=body))

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise RuntimeError(f"{answer.request.url.path} answered {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found
