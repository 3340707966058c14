"""The checkpoints in the repository: complete, small, loadable, and as good as their manifests say."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from kshot.checkpoints import load_checkpoint, read_manifest
from kshot.contracts.recipe import read_recipe
from kshot.episodes.pool import pool_from_labels
from kshot.episodes.sampling import EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.training.data import load_pool
from kshot.training.evaluation import evaluate
from tests.kshot.data_folder import data_folder

FOLDER = Path(__file__).parents[3] / "checkpoints"
NAMES = ("curves", "glyphs", "glyphs-maml", "intents", "photos", "vectors")
OMNIGLOT = "omniglot/omniglot28_bits.npz"


def test_all_of_them_are_there_and_small() -> None:
    assert sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir()) == sorted(NAMES)
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_agrees_with_its_recipe(name: str) -> None:
    manifest, recipe = load_checkpoint(FOLDER / name).manifest, read_recipe(FOLDER / name / "recipe.toml")
    for field in ("name", "description", "tasks", "input", "encoder", "learner", "n_targets"):
        assert getattr(manifest, field) == getattr(recipe, field), field
    lineage = manifest.lineage
    assert lineage.command.startswith("python -m kshot.training") and lineage.steps == recipe.training.steps
    assert all(not data.split.startswith(("test", "valid", "all")) for data in lineage.data)
    assert len(manifest.evaluation) == len(recipe.evaluation)


@pytest.mark.parametrize(("name", "at_least"), [("glyphs", 0.96), ("glyphs-maml", 0.93)])
def test_glyphs_tell_unseen_characters_apart(name: str, at_least: float) -> None:
    checkpoint = load_checkpoint(FOLDER / name)
    pool = load_pool("omniglot", "test", data_folder(OMNIGLOT), checkpoint.manifest.input)
    assert evaluate(checkpoint, "omniglot", episodes(pool, EpisodeShape(5, 1, 5), seed=7), 30).mean > at_least


def test_curves_follow_unseen_sinusoids() -> None:
    row = evaluate(load_checkpoint(FOLDER / "curves"), "sinusoids", sinusoids(10, 100, seed=7), 200)
    assert row.metric == "mse" and row.mean < 0.3


def test_intents_tell_unseen_intents_apart() -> None:
    checkpoint = load_checkpoint(FOLDER / "intents")
    data = data_folder("banking77/train.csv", "banking77/test.csv")
    pool = load_pool("banking77", "all", data, checkpoint.manifest.input)
    assert evaluate(checkpoint, "banking77", episodes(pool, EpisodeShape(5, 5, 15), seed=7), 50).mean > 0.91


def test_a_manifest_reads_without_its_weights() -> None:
    assert read_manifest(FOLDER / "vectors").input.modality == "vector"


def test_what_nothing_was_learned_for_holds_no_numbers():
    """The learner chooses what a head does not say; an untrained penalty would be taken for a learned one."""
    assert load_checkpoint(FOLDER / "vectors").head == {}


def test_a_table_of_uneven_scales_needs_no_preparation() -> None:
    """Tumours by 30 measures from thousandths to thousands, five examples of each kind."""
    inputs, targets = load_breast_cancer(return_X_y=True)
    pool = pool_from_labels(inputs.astype(np.float32), ["benign" if kind else "malignant" for kind in targets])
    row = evaluate(load_checkpoint(FOLDER / "vectors"), "tumours", episodes(pool, EpisodeShape(2, 5, 15), seed=7), 100)
    assert row.mean > 0.87  # with a penalty that nobody chose 0.76
