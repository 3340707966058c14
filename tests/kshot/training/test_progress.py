"""Long trainings stop and continue: at any step, with any outer optimiser, the weights are those of one sitting."""

import re
from pathlib import Path

import pytest
import torch

from kshot.checkpoints import load_checkpoint
from kshot.contracts.checkpoints import WEIGHTS_FILE
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.training.loop import Unfinished, meta_train
from tests.kshot.data_folder import data_folder

PROGRESS = ".progress.safetensors"
COMMON = {"description": "for tests", "seed": 3}
CURVES = {
    "name": "curves",
    "tasks": ["regression"],
    "n_targets": 1,
    "input": {"modality": "vector", "width": 1},
    "encoder": {"name": "mlp", "options": {"hidden": [8]}},
    "learner": {"name": "maml", "options": {"inner_steps": 1, "inner_lr": 0.01}},
    "data": {"name": "sinusoids"},
    "training": {"scheme": "episodes", "steps": 4, "meta_batch": 2, "k_shot": [3, 6], "n_query": 5, "lr": 1e-2},
}
GLYPHS = {
    "name": "glyphs",
    "tasks": ["classification"],
    "input": {"modality": "image", "height": 28, "width": 28, "channels": 1, "invert": True},
    "encoder": {"name": "conv4", "options": {"channels": 4}},
    "learner": {"name": "protonet"},
    "data": {"name": "omniglot", "split": "valid"},
    "training": {"steps": 4, "n_way": [5, 9], "k_shot": [2, 2], "lr": 1e-2, "warp": 0.5},
}
KINDS = {"episodes": CURVES, "folded": GLYPHS}


def made(kind: str, **training: object) -> Recipe:
    fields = KINDS[kind]
    return Recipe.model_validate(COMMON | fields | {"training": fields["training"] | training})


def folder_of(kind: str) -> Path:
    """Sinusoids need no files."""
    return data_folder("omniglot/omniglot28_bits.npz") if kind == "folded" else Path()


def train(recipe: Recipe, data: Path, out: Path, minutes: float | None = None) -> list[str]:
    """What the run said."""
    said: list[str] = []
    meta_train(recipe, data, out, "the command", said.append, minutes)
    return said


def stop_after_a_step(recipe: Recipe, data: Path, out: Path) -> None:
    with pytest.raises(Unfinished, match="goes on"):
        train(recipe, data, out, minutes=0)


def weights(out: Path) -> bytes:
    return (out / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_after_every_step_ends_with_the_same_bytes(kind: str, optimiser: str, tmp_path: Path) -> None:
    recipe, data = made(kind, optimiser=optimiser), folder_of(kind)
    train(recipe, data, tmp_path / "whole")
    for done in (1, 2, 3):
        torch.manual_seed(99)  # whatever else the process does
        stop_after_a_step(recipe, data, tmp_path / "parts")
        assert load_checkpoint(tmp_path / "parts").manifest.lineage.steps == done
        assert weights(tmp_path / "parts") != weights(tmp_path / "whole")
    said = train(recipe, data, tmp_path / "parts")
    assert said[0] == "continuing after step 3"
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert not (tmp_path / "parts" / PROGRESS).exists()


@pytest.mark.parametrize("change", [{"lr": 2e-2}, {"steps": 5}, {"optimiser": "sgd"}])
def test_another_recipe_begins_anew(change: dict[str, object], tmp_path: Path) -> None:
    stop_after_a_step(made("episodes"), Path(), tmp_path / "a")
    said = train(made("episodes", **change), Path(), tmp_path / "a")
    assert not any("continuing" in line for line in said)
    train(made("episodes", **change), Path(), tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_how_a_run_is_described_and_measured_does_not_matter(tmp_path: Path) -> None:
    recipe = made("episodes")
    stop_after_a_step(recipe, Path(), tmp_path)
    fields = recipe.model_dump() | {"description": "better", "evaluation": [{"data": "sinusoids", "k_shot": 5}]}
    assert train(Recipe.model_validate(fields), Path(), tmp_path)[0] == "continuing after step 1"


def test_a_save_that_was_cut_off_does_no_harm(tmp_path: Path) -> None:
    """The process ended while it wrote: the file of the save before is still whole."""
    recipe = made("episodes")
    stop_after_a_step(recipe, Path(), tmp_path / "a")
    (tmp_path / "a" / f"{PROGRESS}.part").write_bytes((tmp_path / "a" / PROGRESS).read_bytes()[:100])
    train(recipe, Path(), tmp_path / "a")
    train(recipe, Path(), tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_damaged_file_is_refused_and_named(kept: int, tmp_path: Path) -> None:
    recipe, file = made("episodes"), tmp_path / PROGRESS
    stop_after_a_step(recipe, Path(), tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(Invalid, match=f"{re.escape(PROGRESS)} of this run is damaged"):
        train(recipe, Path(), tmp_path)


def test_seconds_are_counted_over_all_sittings(tmp_path: Path) -> None:
    recipe = made("episodes", steps=3)
    stop_after_a_step(recipe, Path(), tmp_path)
    first = load_checkpoint(tmp_path).manifest.lineage.seconds
    stop_after_a_step(recipe, Path(), tmp_path)
    assert load_checkpoint(tmp_path).manifest.lineage.seconds >= first
