"""The gate: two checkpoints on the same held-out episodes, and what is made of the figures."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import (
    DataSource,
    EncoderSpec,
    Estimate,
    EvaluationRow,
    ImageInput,
    InputSpec,
    LearnerSpec,
    Lineage,
    Manifest,
    VectorInput,
)
from kshot.contracts.datasets import DATASET_FILE, Columns, DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.jobs import Exit
from kshot.contracts.registry import (
    COMPARISON_FILE,
    FAILURE_FILE,
    GATE_FILE,
    Comparison,
    GateSpec,
    check_comparable,
    describe_loss,
)
from kshot.contracts.tasks import Failure
from kshot.encoders.registry import build_encoder
from kshot.learners.registry import get_learner
from kshot.training import gate, gate_tasks
from kshot.training.gate import compare
from kshot.training.gate_tasks import Trials, draw_trials
from tests.kshot.episodes.dataset_files import laid, npz, picture_zip

DATASET = "ds_01J9ZK3V7Q8W5R2M4N6P0T1XYA"
SPEC = GateSpec(challenger="ckpt_new", incumbent="ckpt_old", dataset=DATASET)
VECTORS = VectorInput(width=8)
IDENTITY = EncoderSpec(name="identity")
MLP = EncoderSpec(name="mlp", options={"hidden": [16, 16]})


def checkpoint(
    spec: InputSpec = VECTORS, encoder: EncoderSpec = MLP, learner: str = "protonet", *, seed: int = 0, **changes: Any
) -> Checkpoint:
    """Untrained, which is enough to tell vectors apart."""
    torch.manual_seed(seed)
    network = build_encoder(encoder, spec)
    task = "regression" if learner == "maml" else "classification"
    head = get_learner(learner).init_head(network, task, 1, torch.Generator().manual_seed(0))
    values: dict[str, Any] = {
        "name": "mine", "description": "for tests", "tasks": (task,), "input": spec, "encoder": encoder,
        "learner": LearnerSpec(name=learner), "n_targets": 1 if task == "regression" else None,
        "lineage": Lineage(command="tests", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    }  # fmt: skip
    return Checkpoint(Manifest(**(values | changes)), network.eval(), head)


def damaged(whole: Checkpoint) -> Checkpoint:
    """The same, blind to all but the first of its inputs."""
    broken = build_encoder(whole.manifest.encoder, whole.manifest.input)
    broken.load_state_dict(whole.encoder.state_dict())
    with torch.no_grad():
        next(broken.parameters())[:, 1:] = 0
    return Checkpoint(whole.manifest, broken.eval(), whole.head)


def vectors(n_classes: int = 30, per_class: int = 12) -> bytes:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_classes, 8)).astype(np.float32)
    labels = np.repeat(np.arange(n_classes), per_class)
    inputs = centres[labels] + 0.6 * rng.normal(size=(len(labels), 8)).astype(np.float32)
    return npz(inputs=inputs, labels=np.array([f"class {label:02}" for label in labels]))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer episodes: enough for these differences."""
    monkeypatch.setattr(gate_tasks, "EPISODES", 60)


def compared(folder: Path, challenger: Checkpoint, incumbent: Checkpoint) -> Comparison:
    return compare(challenger, incumbent, draw_trials(folder, challenger.manifest, incumbent.manifest), SPEC)


def test_a_damaged_copy_is_worse_a_copy_no_worse_and_the_whole_one_better(tmp_path: Path) -> None:
    folder, whole = laid(tmp_path, vectors()), checkpoint()
    worse = compared(folder, damaged(whole), whole)
    assert worse.verdict == "worse" and worse.part == "test"
    assert [(row.n_way, row.k_shot, row.metric, row.episodes) for row in worse.rows] == [
        (5, 1, "accuracy", 300),
        (5, 5, "accuracy", 300),
    ]
    equal = compared(folder, whole, checkpoint())
    assert equal.verdict == "no_worse" and all(row.ahead == Estimate(mean=0, interval=0) for row in equal.rows)
    better = compared(folder, whole, damaged(whole))
    assert better.verdict == "better"
    for row, turned in zip(better.rows, worse.rows, strict=True):  # the same episodes, paired
        assert row.ahead.mean == pytest.approx(-turned.ahead.mean) and row.challenger == turned.incumbent
        assert row.ahead.mean == pytest.approx(row.challenger.mean - row.incumbent.mean)
        assert row.ahead.mean > row.ahead.interval > 0
    said = describe_loss(worse)
    assert "behind by 0." in said
    assert "5-way" in said and "in production" in said and "95% interval" in said and "300 episodes" in said


def test_embedding_each_input_once_changes_nothing(tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, one, other = laid(tmp_path, vectors()), checkpoint(), checkpoint(learner="ridge")
    short = compared(folder, one, other)
    monkeypatch.setattr(gate, "embeds_once", lambda _: False)
    assert compared(folder, one, other) == short


def test_pictures_of_another_size_are_the_same_rows_and_turn_as_the_challenger_was_trained(
    tmp_path: Path, few: None
) -> None:
    folder = laid(tmp_path, picture_zip(20, 6))
    conv = EncoderSpec(name="conv4", options={"channels": 4})
    turning = Lineage(
        command="", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC),
        settings={"data": {"name": DATASET, "rotations": True}},
    )  # fmt: skip
    large = checkpoint(ImageInput(height=28, width=28, channels=1), conv)
    small = checkpoint(ImageInput(height=16, width=16, channels=1), conv, lineage=turning)
    plain = draw_trials(folder, large.manifest, small.manifest)
    assert {side: np.shape(inputs)[1:] for side, inputs in plain.inputs.items()} == {
        "challenger": (28, 28, 1),
        "incumbent": (16, 16, 1),
    }
    turned = draw_trials(folder, small.manifest, large.manifest)
    assert len(turned.inputs["incumbent"]) == 4 * len(plain.inputs["challenger"])
    assert len(compare(small, large, turned, SPEC).rows) == 2


def test_shapes_are_those_of_the_evaluation_table_made_smaller_where_classes_are(tmp_path: Path, few: None) -> None:
    def evaluation(n_way: int, k_shot: int) -> EvaluationRow:
        return EvaluationRow(data="x", n_way=n_way, k_shot=k_shot, metric="accuracy", mean=0, interval=0, episodes=2)

    asked = [evaluation(*shape) for shape in [(3, 2), (3, 2), (50, 1), (4, 1000), (2, 1)]]
    one = checkpoint(evaluation=asked)
    trials = draw_trials(laid(tmp_path, vectors()), one.manifest, checkpoint().manifest)
    shapes = [(e.n_way, len(e.support) // (e.n_way or 1), len(e.query) // (e.n_way or 1)) for e, *_ in trials.shapes]
    assert shapes == [(3, 2, 10), (6, 1, 10), (4, 11, 1)]  # 6 test classes of 12
    for episode in trials.shapes[0]:
        assert not set(np.asarray(episode.support)) & set(np.asarray(episode.query))


def test_the_validation_part_stands_in_where_the_test_part_is_too_small(tmp_path: Path, few: None) -> None:
    names = [f"class {i:02}" for i in range(30)]
    splits = {"train": names[:20], "valid": names[20:29], "test": names[29:]}
    one = checkpoint().manifest
    assert draw_trials(laid(tmp_path, vectors(), splits=splits), one, one).part == "valid"
    (tmp_path / "none").mkdir()
    too_small = laid(
        tmp_path / "none", vectors(), splits={"train": names[:28], "valid": names[28:29], "test": names[29:]}
    )
    with pytest.raises(Invalid, match="too small"):
        draw_trials(too_small, one, one)


def test_drawn_sinusoids_are_judged_by_their_error_with_a_learner_that_moves_the_encoder(
    tmp_path: Path, few: None
) -> None:
    manifest = DatasetManifest(
        id=DATASET, name="waves", format="sinusoid", modality="vector", task="regression", width=1
    )
    (tmp_path / DATASET_FILE).write_text(manifest.model_dump_json())
    whole = checkpoint(VectorInput(width=1), learner="maml")
    blind = damaged(whole)
    with torch.no_grad():
        next(blind.encoder.parameters()).zero_()
    found = compared(tmp_path, blind, whole)
    assert found.verdict == "worse" and [(row.k_shot, row.metric) for row in found.rows] == [(5, "mse"), (10, "mse")]
    assert all(row.ahead.mean == pytest.approx(row.incumbent.mean - row.challenger.mean) for row in found.rows)


def test_tables_of_several_targets_are_asked_one_target_at_a_time(tmp_path: Path, few: None) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    lines = [
        f"{a:.4f},{b:.4f},{c:.4f},{a + 2 * b:.4f},{'' if i % 3 else 'ny'[int(b > c)]}" for i, (a, b, c) in enumerate(x)
    ]
    columns = Columns(targets={"dose": "regression", "toxic": "classification"})
    folder = laid(tmp_path, "\n".join(["a,b,c,dose,toxic", *lines]).encode(), columns=columns)
    both: Any = {"tasks": ("multitask",), "n_targets": None}
    one = checkpoint(VectorInput(), IDENTITY, "multitask", **both)
    blind = checkpoint(VectorInput(width=3), learner="multitask", **both)
    found = compared(folder, damaged(blind), one)
    assert [(row.n_way, row.metric) for row in found.rows] == [
        (2, "accuracy"),
        (2, "accuracy"),
        (None, "mse"),
        (None, "mse"),
    ]
    assert found.verdict == "worse"
    assert all(row.incumbent.mean < 1 for row in found.rows if row.metric == "mse")  # better than the mean


def test_the_process_writes_what_it_found_or_why_it_found_nothing(tmp_path: Path) -> None:
    knowing = Lineage(
        command="", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=[DataSource(name="mine", sha256="", split="train", id=DATASET)],
    )  # fmt: skip
    data = tmp_path / "data" / DATASET
    data.mkdir(parents=True)
    laid(data, vectors())
    save_checkpoint(tmp_path / "checkpoints/challenger", checkpoint(lineage=knowing))
    save_checkpoint(tmp_path / "checkpoints/incumbent", damaged(checkpoint()))
    (tmp_path / GATE_FILE).write_text(SPEC.model_dump_json())
    assert gate.main([str(tmp_path)]) == Exit.FINISHED
    found = Comparison.model_validate_json((tmp_path / COMPARISON_FILE).read_bytes())
    assert (found.challenger, found.incumbent, found.dataset) == ("ckpt_new", "ckpt_old", DATASET)
    assert found.verdict == "better" and found.trained_on == ("challenger",)
    save_checkpoint(tmp_path / "checkpoints/incumbent", checkpoint(VectorInput(width=5)))
    assert gate.main([str(tmp_path)]) == Exit.FAILED
    failure = Failure.model_validate_json((tmp_path / FAILURE_FILE).read_bytes())
    assert (failure.code, failure.param) == ("invalid", "dataset") and "list of 5 numbers" in failure.message


def test_what_cannot_be_compared_is_known_without_torch() -> None:
    def dataset(**changes: Any) -> DatasetManifest:
        values: dict[str, Any] = {
            "id": DATASET,
            "name": "mine",
            "format": "vector_npz",
            "modality": "vector",
            "width": 8,
        }
        return DatasetManifest(**(values | changes))

    vector, picture = checkpoint().manifest, ImageInput(height=8, width=8, channels=1)
    check_comparable(vector, vector, dataset())
    values = vector.model_copy(update={"tasks": ("regression",), "learner": LearnerSpec(name="ridge")})
    for challenger, against, param in [
        (vector.model_copy(update={"input": picture}), dataset(), "checkpoint"),
        (values, dataset(), "checkpoint"),
        (vector, dataset(modality="text", format="text_csv", width=None), "dataset"),
        (vector, dataset(width=5), "dataset"),
        (vector, dataset(format="sinusoid", task="regression"), "dataset"),
    ]:
        with pytest.raises(Invalid) as caught:
            check_comparable(challenger, vector, against)
        assert caught.value.param == param and "force: true" in caught.value.message


def test_trials_give_both_sides_the_same_episodes(tmp_path: Path, few: None) -> None:
    one = checkpoint().manifest
    folder = laid(tmp_path, vectors())
    first, second = (draw_trials(folder, one, one) for _ in range(2))
    assert isinstance(first, Trials)
    for before, after in zip(first.shapes, second.shapes, strict=True):
        assert all(np.array_equal(a.support, b.support) for a, b in zip(before, after, strict=True))


def test_of_a_large_data_set_a_sample_of_classes_is_used(
    tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_tasks, "_MOST_ROWS", 36)
    monkeypatch.setattr(gate_tasks, "_ENOUGH_CLASSES", 3)
    folder, one = laid(tmp_path, vectors()), checkpoint().manifest
    trials = draw_trials(folder, one, one)
    used = {int(row) for shape in trials.shapes for e in shape for row in [*e.support, *e.query]}
    assert len(used) == 36 and len(trials.inputs["challenger"]) == 72
