"""The process that trains a job: killed at any moment, stopped, out of time, or given what it cannot do."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kshot.checkpoints import load_checkpoint
from kshot.contracts.checkpoints import WEIGHTS_FILE
from kshot.contracts.jobs import SPEC_FILE, Exit, JobSpec
from kshot.contracts.recipe import Recipe
from kshot.training import job, job_watch
from kshot.training.job import attempt
from kshot.training.job_watch import StopSignal
from kshot.training.world import ALONE
from tests.kshot.training.work_folders import curves, drawings, events, texts, vectors, work_folder

OUT = Path("checkpoints") / "_out"
PATIENCE_S = 150.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The work is too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(work: Path, stop: StopSignal | None = None) -> int:
    return attempt(work, stop or StopSignal(), ALONE)


def weights(work: Path) -> bytes:
    return (work / OUT / WEIGHTS_FILE).read_bytes()


def started(work: Path) -> subprocess.Popen[bytes]:
    """The child as the trainer starts it; it saves at every chance."""
    command = [sys.executable, "-m", "kshot.training.job", str(work), "--threads", "1"]
    return subprocess.Popen(command, env={**os.environ, "KSHOT_SAVE_S": "0.05"}, stderr=subprocess.PIPE)


def until(holds: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    """Wait for something the child says."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert child.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def count(work: Path, kind: str) -> int:
    return len(events(work, kind))


def long_job(work: Path, steps: int = 1000) -> JobSpec:
    small = {"name": "mlp", "options": {"hidden": [16]}}
    evaluate = [{"n_way": 2, "k_shot": 1, "n_query": 2, "episodes": 300}] * 2
    return work_folder(work, vectors(work), encoder=small, steps=steps, evaluate=evaluate)


def test_a_job_killed_at_random_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    long_job(tmp_path / "whole")
    long_job(tmp_path / "killed")
    assert run(tmp_path / "whole") == Exit.FINISHED
    work, chance = tmp_path / "killed", random.Random(4)
    for _ in range(2):
        child, before = started(work), count(work, "saved")
        until(lambda before=before: count(work, "saved") > before, child)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))
        child.kill()
        assert child.wait() == -signal.SIGKILL
    child = started(work)
    until(lambda: {"phase": "evaluating"} in [event.data for event in events(work, "phase")], child)
    child.kill()
    child.wait()
    assert started(work).wait(PATIENCE_S) == Exit.FINISHED
    assert weights(work) == weights(tmp_path / "whole")
    resumed = [event.data["step"] for event in events(work, "resumed")]
    assert len(resumed) == 3 and resumed == sorted(resumed) and resumed[0] > 0 and resumed[-1] == 1000
    rows = [load_checkpoint(folder / OUT).manifest.evaluation for folder in (work, tmp_path / "whole")]
    assert rows[0] == rows[1]


def test_sigterm_saves_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    long_job(tmp_path / "whole")
    assert run(tmp_path / "whole") == Exit.FINISHED
    work = tmp_path / "stopped"
    long_job(work)
    child = started(work)
    until(lambda: count(work, "step") > 0, child)
    child.terminate()
    assert child.wait(PATIENCE_S) == Exit.STOPPED
    (saved,) = [event.data["step"] for event in events(work, "saved")][-1:]
    assert not (work / OUT / WEIGHTS_FILE).exists()
    assert run(work) == Exit.FINISHED
    assert [event.data["step"] for event in events(work, "resumed")] == [saved]
    assert weights(work) == weights(tmp_path / "whole")


def test_sigterm_before_the_first_step_ends_at_once(tmp_path: Path) -> None:
    long_job(tmp_path)
    child = started(tmp_path)
    until(lambda: count(tmp_path, "phase") > 0, child)
    child.terminate()
    assert child.wait(PATIENCE_S) == Exit.STOPPED


def test_a_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    work_folder(tmp_path, curves(tmp_path), steps=10_000_000)
    code = (
        "import subprocess, sys, time; from pathlib import Path; "
        "child = subprocess.Popen([sys.executable, '-m', 'kshot.training.job', sys.argv[1]]); "
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: count(tmp_path, "step") > 0, parent)
    parent.kill()
    parent.wait()
    end = time.monotonic() + PATIENCE_S
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Whether the process still does anything: one whose parent is gone may wait to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_validation_changes_nothing_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batch norms, random warping and a learner that draws from torch's own generator."""
    for learner, episode in (("protonet", {}), ("reptile", {})):
        made = []
        for name in ("with", "without"):
            work = tmp_path / learner / name
            encoder = {"name": "conv4", "options": {"channels": 8}}
            request: dict[str, Any] = {"encoder": encoder, "learner": learner, "episode": episode}
            work_folder(work, drawings(work), steps=3, augment={"warp": 0.5}, evaluate=[], **request)
            if name == "without":
                monkeypatch.setattr(job, "validation_of", lambda *_: None)
            assert run(work) == Exit.FINISHED
            assert (count(work, "validation") > 0) == (name == "with")
            made.append(weights(work))
        monkeypatch.undo()
        assert made[0] == made[1]


def test_events_tell_the_whole_story(tmp_path: Path) -> None:
    work_folder(tmp_path, texts(tmp_path), steps=200, evaluate=[{"n_way": 2, "k_shot": 1, "episodes": 20}])
    assert run(tmp_path) == Exit.FINISHED
    assert [event.data["phase"] for event in events(tmp_path, "phase")] == ["training", "evaluating", "signing"]
    assert [event.data for event in events(tmp_path, "total")] == [{"total": 200}]
    steps = [event.data["step"] for event in events(tmp_path, "step")]
    assert steps[-1] == 200 and len(steps) >= 100 and steps == sorted(steps)
    points = [event.data["step"] for event in events(tmp_path, "validation")]
    assert points[0] == 0 and points[-1] == 200 and len(points) <= 21
    assert len(events(tmp_path, "saved")) >= 20 and events(tmp_path, "saved")[-1].data == {"step": 200}
    (row,) = events(tmp_path, "evaluated")
    manifest = load_checkpoint(tmp_path / OUT).manifest
    assert row.data == manifest.evaluation[0].model_dump(mode="json") and row.data["data"] == "texts test"
    assert manifest.signature is not None


def test_the_lineage_leads_back_to_the_data_and_the_request(tmp_path: Path) -> None:
    made = vectors(tmp_path)
    spec = work_folder(tmp_path, made, steps=2, evaluate=[])
    assert run(tmp_path) == Exit.FINISHED
    lineage = load_checkpoint(tmp_path / OUT).manifest.lineage
    assert (lineage.job, lineage.steps, lineage.command) == ("job-1", 2, "POST /v1/training-jobs")
    (source,) = lineage.data
    assert (source.id, source.name, source.sha256) == (made.id, made.name, made.sha256)
    assert source.n_classes == len(made.splits["train"])
    assert Recipe.model_validate({**(lineage.settings or {}), "description": spec.recipe.description}) == spec.recipe


def test_a_time_budget_becomes_steps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is saved with the run: a second sitting has the same total, whatever its pace."""
    monkeypatch.setattr(job_watch, "SAVE_S", 0.0)
    stop = StopSignal()
    work_folder(tmp_path, vectors(tmp_path), time_budget=4, evaluate=[])
    kept = job_watch.JobWatch._keep

    def stops_soon(self: job_watch.JobWatch, state: Any) -> None:
        kept(self, state)
        stop.set = state.total is not None and state.step > 60

    monkeypatch.setattr(job_watch.JobWatch, "_keep", stops_soon)
    assert run(tmp_path, stop) == Exit.STOPPED
    (total,) = [event.data["total"] for event in events(tmp_path, "total")]
    monkeypatch.undo()
    assert run(tmp_path) == Exit.FINISHED
    assert [event.data["total"] for event in events(tmp_path, "total")] == [total, total]
    manifest = load_checkpoint(tmp_path / OUT).manifest
    assert manifest.lineage.steps == total > 22
    assert manifest.lineage.settings is not None and manifest.lineage.settings["training"]["steps"] == total
    assert events(tmp_path, "total")[0] != events(tmp_path, "saved")[0]


def test_a_budget_that_is_over_ends_training(tmp_path: Path) -> None:
    work_folder(tmp_path, vectors(tmp_path), spec={"minutes": 1e-9}, time_budget=1, evaluate=[])
    assert run(tmp_path) == Exit.FINISHED
    assert load_checkpoint(tmp_path / OUT).manifest.lineage.steps < 5


def test_what_cannot_be_is_told_and_not_tried_again(tmp_path: Path) -> None:
    spec = work_folder(tmp_path, vectors(tmp_path), steps=2, evaluate=[])
    recipe = spec.recipe.model_copy(update={"data": spec.recipe.data.model_copy(update={"name": "gone"})})  # type: ignore[union-attr]
    (tmp_path / SPEC_FILE).write_text(spec.model_copy(update={"recipe": recipe}).model_dump_json())
    assert run(tmp_path) == Exit.FAILED
    (failed,) = events(tmp_path, "failed")
    assert failed.data["code"] == "invalid" and str(tmp_path) not in json.dumps(failed.data)


def test_training_that_diverges_says_what_to_change(tmp_path: Path) -> None:
    options = {"inner_lr": 10.0, "inner_steps": 20}
    work_folder(tmp_path, curves(tmp_path), steps=50, options=options, evaluate=[])
    assert run(tmp_path) == Exit.FAILED
    (failed,) = events(tmp_path, "failed")
    assert failed.data["code"] == "diverged" and "optimiser.lr" in failed.data["message"]


def test_a_fault_of_ours_is_a_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(job, "loss_of", out_of_memory)
    work_folder(tmp_path, vectors(tmp_path), steps=2, evaluate=[])
    with pytest.raises(MemoryError):
        run(tmp_path)
    assert not events(tmp_path, "failed")
