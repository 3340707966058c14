"""Training from the shell, watched, left and promoted; and the commands of benchmarks/shell.py in short."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.shell import PHOTOS, TEXTS, everything, write_photos, write_texts
from tests.flow.http_stack import CHECKOUT
from tests.kshot.data_folder import data_folder

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]
_PATIENCE_S = 120


@pytest.fixture
def environ(page_url: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("KSHOT_")}
    return {**own, "KSHOT_URL": page_url, "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture
def shell(environ: dict[str, str], tmp_path: Path) -> Shell:
    """`kshot` in a folder of the test."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kshot.cli", *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.run(command, cwd=tmp_path, env=environ, stdin=nothing, capture_output=True, text=True)

    return run


def vectors(file: Path, classes: int = 12, each: int = 8) -> Path:
    """Classes of two numbers each, around points of their own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=5, size=(classes, 2))
    rows = [f"{x:.3f},{y:.3f},c{i}" for i, centre in enumerate(centres) for x, y in centre + rng.normal(size=(each, 2))]
    file.write_text("\n".join(["x,y,label", *rows]))
    return file


def test_a_file_becomes_a_checkpoint_promoted_and_rolled_back(shell: Shell, environ: dict[str, str], tmp_path: Path):
    vectors(tmp_path / "points.csv")
    done = shell("train", "points.csv", "--name", "shell-points", "--steps", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uploaded points.csv as points (96 examples)" in done.stderr
    assert "step 4  loss " in done.stderr and "succeeded" in done.stdout and "5-shot" in done.stdout
    first = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("checkpoint"))
    wanted = {"dataset": "points", "name": "shell-points", "steps": 2, "seed": 1, "evaluate": []}
    job = httpx.post(f"{environ['KSHOT_URL']}/v1/training-jobs", json=wanted).json()["id"]
    told = shell("jobs", "events", job, "--follow", "--json").stdout
    assert [json.loads(line)["kind"] for line in told.splitlines()][-1] == "succeeded"
    assert shell("jobs", "events", job, "--json").stdout == told
    second = json.loads(shell("jobs", "show", job, "--json").stdout)["checkpoint"]
    assert job in shell("jobs", "list").stdout and second in shell("jobs", "list").stdout

    for checkpoint in (first, second):
        moved = shell("promote", "shell-points", checkpoint, "--force")
        assert moved.returncode == 0 and checkpoint in moved.stdout, moved.stderr
    back = shell("rollback", "shell-points", "--json")
    assert json.loads(back.stdout)["checkpoint"] == first
    history = shell("checkpoints", "history", "shell-points").stdout
    assert [line.split()[0] for line in history.splitlines()[1:]] == ["3", "2", "1"] and "rollback" in history


def test_an_interrupt_stops_the_watching_and_not_the_job(shell: Shell, environ: dict[str, str], tmp_path: Path):
    file = vectors(tmp_path / "endless.csv")
    assert shell("datasets", "upload", file.name).returncode == 0
    watching = subprocess.Popen(
        [sys.executable, "-m", "kshot.cli", "train", "endless", "--steps", "1000000"],
        cwd=tmp_path, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )  # fmt: skip
    assert watching.stderr is not None
    job = watching.stderr.readline().split()[1]
    assert "started" in watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=_PATIENCE_S)
    assert watching.returncode == 130, said
    assert f"the job goes on: kshot jobs events {job}, or kshot jobs cancel {job}" in said and "Traceback" not in said

    paused = shell("jobs", "pause", job)
    assert paused.returncode == 0 and f"{job} is paus" in paused.stderr
    until(lambda: "paused" in shell("jobs", "show", job).stdout)
    assert shell("jobs", "resume", job).returncode == 0
    assert shell("jobs", "cancel", job, "--json").returncode == 0
    until(lambda: json.loads(shell("jobs", "show", job, "--json").stdout)["status"] == "cancelled")
    late = shell("jobs", "resume", job)
    assert late.returncode == 1 and late.stderr.startswith("error: ")


def test_photographs_and_texts_are_learned_from_the_shell(page_url: str, tmp_path: Path):
    """The commands of benchmarks/shell.py on 4 classes and 3 intents: the accuracy is printed, and good."""
    data = data_folder(*PHOTOS, *TEXTS)
    write_photos(data, tmp_path, shots=5, classes=4)
    write_texts(data, tmp_path, intents=3)
    photos, asked, chosen, texts, answered = everything(tmp_path, page_url, shots=10)
    for printed in (asked.stdout, chosen.stdout, texts.stdout, answered.stderr):
        (figure,) = [line for line in printed.splitlines() if "% right of" in line and "95% interval" in line]
        accuracy = float(figure.split("%")[0].split()[-1])
        assert accuracy > 75, figure
    assert "4 classes from 20 examples (5 each)" in photos.stdout


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.5)
