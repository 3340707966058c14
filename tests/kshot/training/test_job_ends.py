"""How a job ends where something it could do without, or needs, is not there."""

from pathlib import Path

import pytest

from kshot.checkpoints import load_checkpoint
from kshot.contracts.datasets import DATASET_FILE
from kshot.contracts.jobs import Exit
from kshot.episodes.datasets import Asked, inspect
from kshot.training.job import attempt
from kshot.training.job_watch import StopSignal
from kshot.training.world import ALONE
from tests.kshot.training.work_folders import events, table, texts, work_folder


def run(work: Path) -> int:
    return attempt(work, StopSignal(), ALONE)


def test_a_pretrained_model_that_is_not_here_is_told_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KSHOT_PRETRAINED", raising=False)
    encoder = {"name": "pretrained", "options": {"path": "minilm", "sha256": "0" * 64}}
    work_folder(tmp_path, texts(tmp_path), encoder=encoder, steps=2, evaluate=[])
    assert run(tmp_path) == Exit.FAILED
    (failed,) = events(tmp_path, "failed")
    assert failed.data["code"] == "unavailable" and "KSHOT_PRETRAINED" in failed.data["message"]


def test_a_table_without_test_rows_is_trained_and_not_measured(tmp_path: Path) -> None:
    made = table(tmp_path)
    folder = tmp_path / "data" / made.id
    asked = Asked(id=made.id, name=made.name, columns=made.columns, shares=(1.0, 0.0, 0.0))
    whole = inspect(folder / "data.csv", asked)
    (folder / DATASET_FILE).write_text(whole.model_dump_json())
    work_folder(tmp_path, whole, steps=2)
    assert run(tmp_path) == Exit.FINISHED
    assert not events(tmp_path, "evaluated")
    assert not load_checkpoint(tmp_path / "checkpoints" / "_out").manifest.evaluation
