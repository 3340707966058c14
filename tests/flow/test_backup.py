"""Backup, wipe, restore, by the commands of docs/how-to/backup.md: the same ids give the same answers to the byte."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.own_service import service_on
from standalone import temporary_home
from tests.flow.http_stack import CHECKOUT
from tests.flow.pages import blocks_of

pytestmark = pytest.mark.flow
BACKUP, CHECK, RESTORE = (block.code for block in blocks_of("docs/how-to/backup.md")[:3])
SENTENCES = ["where is my card", "card has not come", "I want a refund", "give me my money back"]


def typed(code: str, home: Path, folder: Path, code_expected: int = 0) -> str:
    """What an operator's command prints, in a folder of theirs."""
    code = code.replace(".venv/bin/python", sys.executable).replace("-m standalone", "-m standalone")
    environ = {**os.environ, "KSHOT_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(["bash", "-euc", code], cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == code_expected, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def adapt(client: httpx.Client, checkpoint: str, inputs: Any, labels: Any, **more: Any) -> str:
    body = {"checkpoint": checkpoint, "support": {"inputs": inputs, "labels": labels}, **more}
    answer = client.post("/adapt", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def trained(client: httpx.Client) -> str:
    """The checkpoint of a small job."""
    assert client.post("/v1/datasets", json={"name": "waves", "source": "sinusoid"}).status_code == 201
    wanted = {"dataset": "waves", "name": "waves", "steps": 20, "evaluate": []}
    job = client.post("/v1/training-jobs", json=wanted).json()["id"]
    deadline = time.monotonic() + 180
    while (shown := client.get(f"/v1/training-jobs/{job}").json())["finished_at"] is None:
        assert time.monotonic() < deadline, shown
        time.sleep(0.1)
    assert shown["status"] == "succeeded", shown
    return str(shown["checkpoint"])


def models(client: httpx.Client) -> dict[str, Any]:
    """Adapted models of all kinds, and a question to each: small states in rows, a large one in the store, one of a
    checkpoint that a job made."""
    rng = np.random.default_rng(0)
    wide, few = rng.normal(size=(40, 1024)).round(3), rng.normal(size=(3, 1024)).round(3)
    return {
        adapt(client, "intents", SENTENCES, ["arrival"] * 2 + ["refund"] * 2): ["my new card is late", "money back"],
        adapt(client, "vectors", [[0, 1.5], [1, 1.0], [2, 0.5], [3, 0.0]], [1.0, 2.9, 5.1, 7.0]): [[4, -0.5]],
        adapt(client, "vectors", wide.tolist(), [f"c{i % 20}" for i in range(40)]): few.tolist(),
        adapt(client, trained(client), [[-1.0], [0.0], [1.0]], [0.2, 0.4, 0.6]): [[0.5], [2.0]],
    }


def answers(client: httpx.Client, questions: dict[str, Any]) -> dict[str, bytes]:
    """The predictions of each model, as they were sent."""
    found = {}
    for model, inputs in questions.items():
        answer = client.post("/predict", json={"model": model, "inputs": inputs})
        assert answer.status_code == 200, answer.text
        found[model] = json.dumps(answer.json()["predictions"]).encode()
    return found


@pytest.mark.timeout(600)
def test_after_a_restore_the_same_models_give_the_same_answers(tmp_path: Path):
    with temporary_home() as folder:
        home = folder / "home"
        with service_on(folder) as url, httpx.Client(base_url=url, timeout=60) as client:
            questions = models(client)
            before = answers(client, questions)
            assert "what was stored" in typed(BACKUP, home, tmp_path), "while it runs"
            large = list((tmp_path / "backup-of-today" / "objects" / "states").iterdir())
            assert 0 < len(large) < len(questions), "some states are in the store, some in their rows"
            assert "already uses" in typed(RESTORE.splitlines()[-1], home, tmp_path, 1), "not while it runs"
            gone = next(iter(questions))
            assert client.delete(f"/v1/adapted-models/{gone}").status_code == 200, "after the backup"
        assert "what was stored" in typed(CHECK, home, tmp_path)
        assert "not empty" in typed(RESTORE.splitlines()[-1], home, tmp_path, 1), "nothing is overwritten"
        typed(RESTORE, home, tmp_path)
        shutil.rmtree(f"{home}.old")
        with service_on(folder) as url, httpx.Client(base_url=url, timeout=60) as client:
            assert answers(client, questions) == before
            job = client.get("/v1/training-jobs").json()["data"][0]
            assert job["status"] == "succeeded" and client.get("/v1/datasets/waves").status_code == 200
        assert "what was stored" in typed(CHECK.replace(" backup-of-today", ""), home, tmp_path)
