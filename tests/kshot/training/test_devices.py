"""Whatever trains, measures, signs and compares follows its model to another device, and makes the same there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kshot.checkpoints import load_checkpoint, read_manifest, save_checkpoint
from kshot.contracts.checkpoints import WEIGHTS_FILE, EncoderSpec
from kshot.contracts.jobs import EVENTS_FILE, SPEC_FILE, EventKind, Exit
from kshot.device import CPU
from kshot.episodes.sampling import EpisodeShape
from kshot.learners.base import device_of
from kshot.training import gate, gate_tasks, validation
from kshot.training.comparison import compare
from kshot.training.job import attempt
from kshot.training.job_watch import StopSignal
from kshot.training.loop import Unfinished, meta_train
from kshot.training.losses import training_pool
from kshot.training.mapping import TEACHER, train_mapping
from kshot.training.world import World
from tests.kshot.data_folder import data_folder
from tests.kshot.episodes.dataset_files import laid
from tests.kshot.training import test_gate
from tests.kshot.training.elsewhere import ELSEWHERE, somewhere_else
from tests.kshot.training.test_mapping import OMNIGLOT, recipe, trained
from tests.kshot.training.test_progress import folder_of, made
from tests.kshot.training.test_world import SMALL
from tests.kshot.training.work_folders import KINDS, events, work_folder

Case = tuple[str, dict[str, Any], dict[str, Any]]
"""A data set of ``work_folders``, what a job on it asks for, and changes to the training it is planned with."""

WARPED = {"meta_batch": 2, "warp": 0.5}
CASES: dict[str, Case] = {
    "maml": ("vectors", {"learner": "maml"}, {}),
    "metasgd": ("vectors", {"learner": "metasgd"}, {}),
    "protomaml": ("vectors", {"learner": "protomaml"}, {}),
    "matching": ("vectors", {"learner": "matching"}, {}),
    "contrastive": ("vectors", {"learner": "contrastive"}, {"max_gradient": 1.0}),
    "convolutions": ("drawings", {"learner": "protonet"}, WARPED),
    "norms of a task": ("drawings", {"learner": "mamlpp"}, {"warp": 0.5, "meta_batch": 1}),
    "texts": ("texts", {"learner": "ridge"}, {}),
    "reptile": ("curves", {"learner": "reptile"}, {"meta_batch": 2}),
    "recorded": ("recorded", {}, {}),
    "recorded numbers": ("recorded_numbers", {}, {}),
    "joint": ("table", {}, {"weighting": "uncertainty"}),
    "joint, upgrad": ("table", {}, {"weighting": "upgrad"}),
    "joint, affinity": ("table", {}, {"weighting": "affinity"}),
}
FEW = 2
SHORT = {
    "k_shot": (1, 2),
    "n_query": 2,
    "options": {"inner_steps": 1},
    "optimiser": "sgd",  # Adam would scale up what rounding makes of a gradient that should be 0
    "lr": 0.1,
    "precision": "float32",  # the stand-in has no other
}
pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # this one holds numbers


def done(work: Path, case: Case, device: torch.device) -> Path:
    """A whole job: training, validation, evaluation, signature."""
    kind, request, changes = case
    spec = work_folder(work, KINDS[kind](work), steps=2, **request)
    training = spec.recipe.training.model_copy(
        update=SHORT | changes | ({"n_way": (3, 3)} if spec.recipe.training.n_way else {})
    )
    rows = [row.model_copy(update={"episodes": FEW}) for row in spec.recipe.evaluation[:1]]
    encoder, learner = spec.recipe.encoder, spec.recipe.learner
    small = {
        "encoder": encoder.model_copy(update={"options": encoder.options | SMALL.get(encoder.name, {})}),
        "learner": learner.model_copy(update={"options": learner.options | {"inner_steps": 1}}),
    }
    short = spec.recipe.model_copy(update={"training": training, "evaluation": rows} | small)
    (work / SPEC_FILE).write_text(spec.model_copy(update={"recipe": short}).model_dump_json())
    assert attempt(work, StopSignal(), World(device=device)) == Exit.FINISHED, (work / EVENTS_FILE).read_text()
    return work


@pytest.mark.parametrize("name", CASES)
def test_a_job_elsewhere_makes_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in computes as the CPU does, but for how a convolution adds up: it only minds where tensors lie."""
    monkeypatch.setattr(validation, "EPISODES", FEW)
    here = done(tmp_path / "here", CASES[name], CPU)
    with somewhere_else() as device:
        there = done(tmp_path / "there", CASES[name], device)
    one, other = (work / "checkpoints" / "_out" for work in (here, there))
    torch.testing.assert_close(load_file(other / WEIGHTS_FILE), load_file(one / WEIGHTS_FILE))
    assert (read_manifest(other).signature is None) == (read_manifest(one).signature is None)
    assert told(there, "evaluated") == told(here, "evaluated")
    assert told(there, "validation")[-1] == told(here, "validation")[-1]  # others go by the clock


def told(work: Path, kind: EventKind) -> list[dict[str, Any]]:
    """The events of a kind, figures rounded."""
    found = [{name: value for name, value in event.data.items() if name != "more"} for event in events(work, kind)]
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in one.items()} for one in found
    ]


@pytest.mark.parametrize("kind", ["episodes", "folded"])
def test_a_run_goes_on_elsewhere_and_comes_back(kind: str, tmp_path: Path) -> None:
    recipe, data = made(kind), folder_of(kind)

    def sit(out: str, world: World, minutes: float | None = None) -> None:
        meta_train(recipe, data, tmp_path / out, "the command", lambda line: None, minutes, world=world)

    sit("whole", World())
    with pytest.raises(Unfinished):
        sit("parts", World(), minutes=0)
    with pytest.raises(Unfinished), somewhere_else() as device:
        sit("parts", World(device=device), minutes=0)
    sit("parts", World())
    assert (tmp_path / "parts" / WEIGHTS_FILE).read_bytes() == (tmp_path / "whole" / WEIGHTS_FILE).read_bytes()


def test_a_mapping_and_its_comparison_elsewhere(tmp_path: Path) -> None:
    data, shape = data_folder(OMNIGLOT), EpisodeShape(4, 1, 5)
    here = trained(tmp_path, data, recipe())
    with somewhere_else() as device:
        there = train_mapping(recipe(), data, tmp_path / "there", "c", lambda line: None, world=World(device=device))
        assert device_of(there.encoder, there.head) == ELSEWHERE
        teacher, pool = load_checkpoint(tmp_path / "there" / TEACHER, device), training_pool(recipe(), data)
        found = compare(there, teacher, pool, tmp_path, shape, FEW, 0)
    teacher = load_checkpoint(tmp_path / "out" / TEACHER)
    assert [row.accuracy for row in found] == [
        row.accuracy for row in compare(here, teacher, pool, tmp_path, shape, FEW, 0)
    ]


@pytest.mark.parametrize("encoder", [test_gate.MLP, test_gate.IDENTITY])
@pytest.mark.parametrize("learner", ["ridge", "protonet"])
def test_the_gate_compares_elsewhere(
    encoder: EncoderSpec, learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an encoder without a tensor of its own, which is where its head is."""
    monkeypatch.setattr(gate_tasks, "EPISODES", FEW)
    laid(tmp_path, test_gate.vectors())
    one, other = test_gate.checkpoint(encoder=encoder, learner=learner), test_gate.checkpoint(seed=1)
    save_checkpoint(tmp_path / "one", one)
    save_checkpoint(tmp_path / "other", other)
    trials = gate_tasks.draw_trials(tmp_path, one.manifest, other.manifest)
    with somewhere_else() as device:
        sides = (load_checkpoint(tmp_path / name, device) for name in ("one", "other"))
        found = gate.compare(*sides, trials, test_gate.SPEC)
    assert found.rows == gate.compare(one, other, trials, test_gate.SPEC).rows


def test_the_stand_in_refuses_what_a_gpu_would() -> None:
    here = torch.ones(2)
    with somewhere_else() as device:
        there = here.to(device)
        assert (there + 1).cpu().tolist() == [2, 2] and (there * torch.tensor(2.0)).sum().item() == 4
        assert there[torch.tensor([0])].device == device
        for mix in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()], there.numpy):
            with pytest.raises(RuntimeError, match=r"on the CPU|numpy"):
                mix()
