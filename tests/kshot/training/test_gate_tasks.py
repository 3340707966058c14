"""The gate on recorded tasks: what is measured is tasks, however often episodes are drawn from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import ImageInput, VectorInput
from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.registry import describe_loss
from kshot.episodes.recorded import RecordedTask, write_recorded
from kshot.metrics import mean_interval
from kshot.relations.transfer import episode_scores
from kshot.training import gate_tasks
from kshot.training.gate import _filled, compare
from kshot.training.gate_tasks import FEWEST_TASKS, draw_trials
from tests.kshot.training.test_gate import DATASET, IDENTITY, SPEC, checkpoint, damaged


def recorded(folder: Path, tasks: list[RecordedTask], **changes: Any) -> Path:
    """A data set folder with these tasks, all of them held out."""
    values: dict[str, Any] = {
        "id": DATASET, "name": "tasks", "format": "recorded_tasks", "modality": "vector", "file": "data.safetensors",
        "shares": (0, 0, 1),
    }  # fmt: skip
    write_recorded(folder / "data.safetensors", tasks)
    (folder / DATASET_FILE).write_text(DatasetManifest(**(values | changes)).model_dump_json())
    return folder


def classes(count: int, rows: int = 18) -> list[RecordedTask]:
    """Tasks of two to four classes of vectors of width 8, each harder or easier than the next."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        labels = [f"c{j % (2 + i % 3)}" for j in range(rows)]
        centres = rng.normal(size=(4, 8)) * rng.uniform(0.2, 2)
        inputs = rng.normal(size=(rows, 8)) + centres[[int(label[1:]) for label in labels]]
        found.append(RecordedTask(f"am_{i:03}", inputs.astype(np.float32), labels))
    return found


def numbers(count: int, rows: int = 14) -> list[RecordedTask]:
    """Tasks of regression on vectors of width 8."""
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        inputs = rng.normal(size=(rows, 8)).astype(np.float32)
        values = (inputs @ rng.normal(size=(8, 1)) + rng.normal(size=(rows, 1))).astype(np.float32)
        found.append(RecordedTask(f"am_{i:03}", inputs, values=values))
    return found


def regressor(**changes: Any) -> Checkpoint:
    return checkpoint(VectorInput(width=8), learner="ridge", tasks=("regression",), **changes)


def test_recorded_tasks_keep_to_their_own_classes(tmp_path: Path) -> None:
    recorded(tmp_path, classes(12))
    one = checkpoint(VectorInput(), IDENTITY)
    trials = draw_trials(tmp_path, one.manifest, one.manifest)
    for episode in (episode for shape in trials.shapes for episode in shape):
        assert {int(row) // 18 for row in [*episode.support, *episode.query]} == {episode.group}
        assert episode.n_way in {2, 3, 4}
    assert compare(one, one, trials, SPEC).verdict == "no_worse"


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_intervals_are_over_tasks(tmp_path: Path, kind: str) -> None:
    if kind == "classification":
        recorded(tmp_path, classes(12))
        one, other = checkpoint(), checkpoint(seed=1)
    else:
        recorded(tmp_path, numbers(12), task="regression")
        one, other = regressor(), regressor(seed=1)
    trials = draw_trials(tmp_path, one.manifest, other.manifest)
    found = compare(one, other, trials, SPEC)
    assert [(row.tasks, row.episodes) for row in found.rows] == [(12, 300)] * 2
    for row, shape in zip(found.rows, trials.shapes, strict=True):
        filled = [_filled(episode, trials.inputs["challenger"]) for episode in shape]
        scores = [episode_scores(side, filled) for side in (one, other)]
        ahead = scores[0] - scores[1] if kind == "classification" else scores[1] - scores[0]
        groups = np.array([episode.group for episode in shape])
        means = [ahead[groups == group].mean() for group in range(12)]
        over_tasks, over_episodes = mean_interval(means), mean_interval(ahead)
        assert row.ahead.mean == pytest.approx(over_tasks.mean, abs=1e-6)
        assert row.ahead.interval == pytest.approx(over_tasks.interval, abs=1e-6)
        assert over_tasks.interval > 1.2 * over_episodes.interval, "300 draws from 12 tasks are 12 tasks"
    assert "300 episodes of 12 tasks" in describe_loss(found)


def test_a_damaged_copy_is_still_found(tmp_path: Path) -> None:
    recorded(tmp_path, classes(40))
    whole = checkpoint()
    trials = draw_trials(tmp_path, whole.manifest, whole.manifest)
    assert compare(damaged(whole), whole, trials, SPEC).verdict == "worse"
    assert compare(whole, damaged(whole), trials, SPEC).verdict == "better"


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_few_tasks_prove_nothing_and_are_refused(tmp_path: Path, kind: str) -> None:
    few, one = FEWEST_TASKS - 1, checkpoint() if kind == "classification" else regressor()
    make = classes if kind == "classification" else numbers
    recorded(tmp_path, make(few), task=kind)
    with pytest.raises(Invalid, match=r"9 recorded tasks are held out .* and 10 are needed.*force: true") as caught:
        draw_trials(tmp_path, one.manifest, one.manifest)
    assert caught.value.param == "dataset"
    recorded(tmp_path, make(FEWEST_TASKS), task=kind)
    assert draw_trials(tmp_path, one.manifest, one.manifest).shapes


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_every_shape_is_one_that_enough_tasks_can_give(tmp_path: Path, kind: str) -> None:
    """Four of 12 tasks are large: half of them, or ten, take part in each shape all the same."""
    if kind == "classification":
        tasks = [*classes(8, rows=9), *(RecordedTask("x" + t.id, t.inputs, t.labels) for t in classes(4, rows=60))]
        one = checkpoint()
    else:
        tasks = [*numbers(8, rows=5), *(RecordedTask("x" + t.id, t.inputs, values=t.values) for t in numbers(4, 60))]
        one = regressor()
    recorded(tmp_path, tasks, task=kind)
    for shape in draw_trials(tmp_path, one.manifest, one.manifest).shapes:
        assert len({episode.group for episode in shape}) >= FEWEST_TASKS


def test_recorded_pictures_are_not_turned_into_more_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_tasks, "EPISODES", 60)
    spec, rng = ImageInput(height=8, width=8, channels=1), np.random.default_rng(0)
    pictures = rng.integers(0, 255, (12, 6, 8, 8, 1)).astype(np.uint8)
    tasks = [RecordedTask(f"am_{i:02}", own, list("aabbcc")) for i, own in enumerate(pictures)]
    recorded(tmp_path, tasks, modality="image", input=spec)
    one = checkpoint().manifest
    turning = one.lineage.model_copy(update={"settings": {"data": {"rotations": True}}})
    turned = one.model_copy(update={"input": spec, "lineage": turning})
    trials = draw_trials(tmp_path, turned, turned)
    assert len(trials.inputs["challenger"]) == 72
