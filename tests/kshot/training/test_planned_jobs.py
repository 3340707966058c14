"""What the planning accepts does run, on every kind of data set; its tables agree with the encoders themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kshot.checkpoints import load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, Manifest
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.jobs import Exit
from kshot.contracts.methods import METHODS
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.registry import ENCODERS, build_encoder
from kshot.episodes.splits import split_tasks
from kshot.learners.base import Support
from kshot.learners.registry import get_learner
from kshot.planning.encoder_options import ENCODER_OPTIONS, FROZEN, MODALITIES
from kshot.planning.learner import LEARNER_OPTIONS
from kshot.training import validation
from kshot.training.job import attempt
from kshot.training.job_watch import StopSignal
from kshot.training.world import ALONE
from tests.kshot.training.work_folders import KINDS, events, recorded, recorded_numbers, work_folder

SMALL: dict[str, dict[str, Any]] = {
    "conv4": {"channels": 8},
    "resnet12": {"widths": [8, 8]},
    "mlp": {"hidden": [16]},
    "hierarchy": {"levels": [[16], [8]]},
    "text": {"random_features": 0},
}
SHORT = {"steps": 2, "name": "mine", "meta_batch": 2}
ROW = {"episodes": 2, "n_query": 1, "k_shot": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, DatasetManifest]]:
    """The tiny data sets, each in a work folder."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, KINDS[kind](folder)) for kind, folder in folders.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A curve's points from two episodes each; one thread, since the work is too small to share."""
    monkeypatch.setattr(validation, "EPISODES", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ran(work: Path) -> Manifest:
    """The manifest of what the job of a work folder made."""
    for file in (work / "checkpoints" / "_out").iterdir():
        file.unlink()
    (work / "events.jsonl").unlink(missing_ok=True)
    code = attempt(work, StopSignal(), ALONE)
    assert code == Exit.FINISHED, [event.data for event in events(work, "failed")]
    return load_checkpoint(work / "checkpoints" / "_out").manifest


def cases() -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        skipped = {"pretrained"} | ({"conv4", "resnet12"} if kind == "photos" else set())  # as with drawings
        yield from ((kind, encoder) for encoder in ENCODERS if encoder not in skipped)


@pytest.mark.parametrize(("kind", "encoder"), cases())
def test_what_is_accepted_runs_and_what_is_not_names_a_field(
    kind: str, encoder: str, made: dict[str, tuple[Path, DatasetManifest]]
) -> None:
    work, data = made[kind]
    rows = {} if kind == "table" else {"evaluate": [ROW]}
    spec = {"name": encoder, "options": SMALL.get(encoder, {})}
    seen = {"modality": "image", "height": 32, "width": 32, "channels": 3}
    pictures = {"input": seen} if kind == "photos" or (encoder == "image" and data.modality == "image") else {}
    for learner in METHODS:
        try:
            work_folder(work, data, encoder=spec, learner=learner, **SHORT, **rows, **pictures)
        except Invalid as refusal:
            assert refusal.param in {"learner", "encoder", "encoder.options.norm"}, refusal.message
            continue
        manifest = ran(work)
        assert (manifest.encoder.name, manifest.learner.name) == (encoder, learner)
        assert manifest.lineage.steps == 2 and manifest.lineage.job == "job-1"
        assert manifest.evaluation


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_a_base_for_more(kind: str, made: dict[str, tuple[Path, DatasetManifest]]) -> None:
    """Of the same data: once as it is, and once mapped, where there are classes."""
    work, data = made[kind]
    small = {"name": {"photos": "resnet12", "curves": "mlp"}.get(kind, "")} if kind in {"photos", "curves"} else None
    encoder = {"encoder": {**small, "options": SMALL[small["name"]]}} if small else {}
    rows = {} if kind == "table" else {"evaluate": [ROW]}
    work_folder(work, data, **SHORT, **encoder, **rows)
    first = ran(work)
    parent = work / "parent"
    save_checkpoint(parent, load_checkpoint(work / "checkpoints" / "_out"))
    base = (first.model_copy(update={"name": "parent"}), parent)
    work_folder(work, data, base, **SHORT, **rows)
    second = ran(work)
    assert second.lineage.parent == "ckpt-1"
    assert second.encoder.name == ("mapped" if first.encoder.name in FROZEN else first.encoder.name)
    if kind in {"drawings", "photos", "texts", "vectors", "recorded"}:
        work_folder(work, data, base, encoder="mapped", learner="ridge", **SHORT, **rows)
        assert ran(work).encoder.options["source"] == first.encoder.model_dump(mode="json")


@pytest.mark.parametrize("learner", ["maml", "fomaml", "metasgd", "mamlpp", "reptile", "protomaml", "anil"])
def test_gradient_learners_begin_at_a_metric_learner(
    learner: str, made: dict[str, tuple[Path, DatasetManifest]]
) -> None:
    work, data = made["drawings"]
    work_folder(work, data, encoder={"name": "conv4", "options": SMALL["conv4"]}, evaluate=[], **SHORT)
    first = ran(work)
    parent = work / "glyphs"
    save_checkpoint(parent, load_checkpoint(work / "checkpoints" / "_out"))
    base = (first.model_copy(update={"name": "glyphs"}), parent)
    work_folder(work, data, base, learner=learner, evaluate=[], **SHORT)
    norm = ran(work).encoder.options["norm"]
    assert norm == ("batch" if learner == "anil" else "task")


@pytest.mark.parametrize("name", ENCODER_OPTIONS)
def test_the_table_of_encoder_options_is_the_encoders_own(name: str) -> None:
    modality, constructor = ENCODERS[name]
    taken = {
        parameter.name: parameter.default
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if name == "mapped":
        from kshot.encoders.mapped import Mapped  # its source is filled in for it

        taken = {key: own.default for key, own in inspect.signature(Mapped).parameters.items() if key in MAPPED}
    fields = ENCODER_OPTIONS[name].model_fields
    assert set(fields) == set(taken)
    for option, default in taken.items():
        if default is not inspect.Parameter.empty:
            assert fields[option].get_default() == default
    assert modality is None or MODALITIES[name] == {modality}


MAPPED = {"hidden", "width"}


def test_the_table_of_frozen_encoders_is_right(made: dict[str, tuple[Path, DatasetManifest]]) -> None:
    assert ENCODER_OPTIONS.keys() == MODALITIES.keys() == ENCODERS.keys()
    for kind, name in (("photos", "image"), ("texts", "text"), ("vectors", "mlp"), ("drawings", "conv4")):
        work, data = made[kind]
        spec = work_folder(work, data, encoder=name, **SHORT)
        encoder = build_encoder(EncoderSpec(name=name, options=spec.recipe.encoder.options), spec.recipe.input)
        assert encoder.frozen == (name in FROZEN)


def test_every_learner_that_is_trained_has_its_options_listed() -> None:
    assert LEARNER_OPTIONS.keys() == METHODS.keys() - {"finetune"}


@pytest.mark.parametrize("kind", ["vectors", "recorded", "recorded_numbers"])
def test_a_base_of_any_width_and_both_kinds_of_task_stays_so(
    kind: str, made: dict[str, tuple[Path, DatasetManifest]], tmp_path: Path
) -> None:
    """As the shipped `vectors`; the checkpoint adapts to classes and to two numbers, whichever it was trained on."""
    work, data = made[kind]
    shipped = load_checkpoint(Path("checkpoints/vectors"))
    save_checkpoint(tmp_path / "vectors", shipped)
    work_folder(work, data, (shipped.manifest, tmp_path / "vectors"), **SHORT)
    manifest = ran(work)
    assert set(manifest.tasks) == set(shipped.manifest.tasks)
    assert (manifest.input, manifest.n_targets) == (shipped.manifest.input, None) or data.input is not None
    whole, ridge = load_checkpoint(work / "checkpoints" / "_out"), get_learner("ridge")
    x = torch.randn(6, 5 if data.input else 6, generator=torch.Generator().manual_seed(0)).numpy()
    classes = Support("classification", x, torch.tensor([0, 0, 0, 1, 1, 1]), 2)
    numbers = Support("regression", x, torch.randn(6, 2), None)
    states = ridge.adapt_only(whole, [classes, numbers], LearnerOptions())
    outputs = ridge.predict(whole, states, [x, x])
    assert outputs[0].logits is not None and outputs[0].logits.shape == (6, 2)
    assert outputs[1].values is not None and outputs[1].values.shape == (6, 2)


@pytest.mark.parametrize("kind", ["recorded", "recorded_numbers"])
def test_the_usual_evaluation_of_recorded_tasks_is_what_they_can_give(
    kind: str, made: dict[str, tuple[Path, DatasetManifest]]
) -> None:
    """Of two or three classes with three to five examples, or of 12 rows, without a word about evaluation."""
    work, data = made[kind]
    work_folder(work, data, **SHORT)
    rows = ran(work).evaluation
    held_out = len(split_tasks([f"t{i:03}" for i in range(20)], data.shares, data.seed)["test"])
    assert {row.tasks for row in rows} == {held_out} and {row.episodes for row in rows} == {600}
    shapes = [(row.n_way, row.k_shot) for row in rows]
    assert shapes == ([(None, 1), (None, 2)] if kind == "recorded" else [(None, 5)])
    assert len({row.model_dump_json(exclude={"k_shot"}) for row in rows}) == len(rows)


def test_rows_that_shrink_to_the_same_are_one_and_small_tasks_are_measured_too(tmp_path: Path) -> None:
    """Two examples of each class allow one shot alone, three rows of numbers two."""
    data = recorded(tmp_path / "classes", rows=4, ways=2)
    work_folder(tmp_path / "classes", data, **SHORT)
    assert [(row.n_way, row.k_shot) for row in ran(tmp_path / "classes").evaluation] == [(2, 1)]
    work_folder(tmp_path / "classes", data, **SHORT, evaluate=[{"n_way": 5, "k_shot": 20, "episodes": 7}])
    assert [(row.n_way, row.k_shot, row.episodes) for row in ran(tmp_path / "classes").evaluation] == [(2, 1, 7)]
    data = recorded_numbers(tmp_path / "numbers", rows=3)
    work_folder(tmp_path / "numbers", data, episode={"k_shot": 1}, **SHORT)
    assert [row.k_shot for row in ran(tmp_path / "numbers").evaluation] == [2]
