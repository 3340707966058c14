"""Record what the code of a commit leaves in a database and an object store: ``python -m tests.flow.record_revision``.

It runs that commit's own migrations, publisher, API and worker, asks for models and answers, and leaves tasks that no
worker has seen. test_upgrades.py brings the recording forward. One is made of each revision, before the next exists.
"""

import argparse
import asyncio
import base64
import gzip
import json
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx

from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, migrate_and_publish, run_api, run_worker, vector_task
from tests.flow.revision_rows import FOLDER, rows_of

_CHECKPOINTS = ("vectors", "curves")
_LINE = {"inputs": [[-2.0], [-1.0], [0.0], [1.0], [2.0]], "labels": [-1.0, -0.5, 0.0, 0.5, 1.0]}
_MORE = {"inputs": [[5.0, 5.0, 0.0, 0.0]], "labels": ["up"]}
_TOLD = {"inputs": [[4.0, 0.0, 0.0, 0.0]], "labels": ["right"]}
_QUERY = [[4.0, 0.5, 0.0, 0.0], [-4.0, 0.5, 0.0, 0.0]]


def main() -> None:
    """Write ``revisions/<revision>.json.gz``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default="HEAD")
    with TemporaryDirectory() as folder, embedded_servers() as servers:
        code = export(parser.parse_args().commit, Path(folder) / "code")
        recording = asyncio.run(_record(code, Path(folder), servers))
    text = json.dumps(recording, indent=1).encode()
    (FOLDER / f"{recording['revision']}.json.gz").write_bytes(gzip.compress(text, mtime=0))


def export(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    command = ["git", "archive", commit]
    archive = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


async def _record(code: Path, folder: Path, servers: EmbeddedServers) -> dict[str, Any]:
    objects = folder / "objects"
    environ = {**servers.environ, "KSHOT_OBJECTS": str(objects), "KSHOT_ADMIN_KEY": ADMIN_KEY}
    for name in _CHECKPOINTS:
        migrate_and_publish(environ, code / "checkpoints" / name, code)
    with run_api(environ, folder, code) as api, api.client(ADMIN_KEY) as client:
        with run_worker(environ, folder, api, code):
            answered = _ask(client)
        queued = [_adapt(client, seed, Prefer="respond-async")["id"] for seed in (11, 12)]
    connection = await asyncpg.connect(servers.database_url)
    try:
        tables = await rows_of(connection)
    finally:
        await connection.close()
    return {
        "revision": tables.pop("alembic_version")[0]["version_num"],
        "answered": answered,
        "queued": queued,
        "tables": tables,
        "objects": _files(objects),
    }


def _ask(client: httpx.Client) -> list[dict[str, Any]]:
    """Predictions of stored models, with what was asked; and what the commit can do besides."""
    many = _adapt(client, 1, **{"Idempotency-Key": "recorded"})
    grown = client.post(f"/v1/adapted-models/{many['id']}/examples", json={"support": _MORE})
    line = client.post("/adapt", json={"checkpoint": "curves", "support": _LINE})
    asked = [(many["id"], _QUERY), (_said(grown)["id"], _QUERY), (_said(line)["id"], [[0.5], [1.5]])]
    bodies = [{"model": model, "inputs": inputs} for model, inputs in asked]
    _said(client.post("/v1/api-keys", json={"name": "a user", "tenant": "recorded", "role": "user"}))
    if "/v1/training-jobs" in client.get("/openapi.json").json()["paths"]:
        _said(client.post(f"/v1/adapted-models/{many['id']}/feedback", json=_TOLD))
        _said(client.post("/v1/datasets", json={"name": "waves", "source": "sinusoid"}))
        _said(client.post("/v1/training-jobs", json={"dataset": "waves", "name": "waves", "steps": 4}))
    return [{"body": body, "predictions": _said(client.post("/predict", json=body))["predictions"]} for body in bodies]


def _adapt(client: httpx.Client, seed: int, **headers: str) -> dict[str, Any]:
    return _said(client.post("/adapt", json=vector_task(seed, checkpoint="vectors"), headers=headers))


def _said(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    said: dict[str, Any] = answer.json()
    return said


def _files(folder: Path) -> dict[str, str]:
    """Path below the folder -> content in base64."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): base64.b64encode(path.read_bytes()).decode() for path in files}


if __name__ == "__main__":
    main()
