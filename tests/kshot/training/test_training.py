"""Recipes, outer loops and evaluation, on problems small enough to solve in a second."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe, Training, read_recipe
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.registry import build_encoder
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.sampling import EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.learners.registry import get_learner
from kshot.training.__main__ import main
from kshot.training.data import load_pool
from kshot.training.evaluation import evaluate
from kshot.training.loop import meta_train
from kshot.training.losses import fitted
from kshot.training.metric import draw, folded_meta_loss
from kshot.training.model import first_model
from kshot.training.precompute import precompute
from tests.kshot.data_folder import data_folder

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"


def curves(**training: object) -> Recipe:
    settings = {"scheme": "episodes", "steps": 40, "meta_batch": 4, "k_shot": (10, 10), "n_query": 10, "lr": 5e-3}
    return Recipe.model_validate(
        {
            "name": "small-curves",
            "description": "for tests",
            "tasks": ["regression"],
            "n_targets": 1,
            "input": {"modality": "vector", "width": 1},
            "encoder": {"name": "mlp", "options": {"hidden": [16]}},
            "learner": {"name": "maml", "options": {"inner_steps": 1, "inner_lr": 0.01}},
            "data": {"name": "sinusoids"},
            "training": settings | training,
        }
    )


def glyphs(**training: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small-glyphs",
            "description": "for tests",
            "tasks": ["classification"],
            "input": {"modality": "image", "height": 28, "width": 28, "channels": 1, "invert": True},
            "encoder": {"name": "conv4", "options": {"channels": 8}},
            "learner": {"name": "protonet"},
            "data": {"name": "omniglot", "split": "valid"},
            "training": {"steps": 30, "n_way": [20, 20], "k_shot": [2, 2], "lr": 1e-2} | training,
        }
    )


def quiet(line: str) -> None:
    assert line.startswith("step ")


def trained(recipe: Recipe, out: Path, data: Path = Path()) -> Checkpoint:
    return meta_train(recipe, data, out, "the command", quiet)


def weights(checkpoint: Checkpoint) -> torch.Tensor:
    state = checkpoint.encoder.state_dict()
    return torch.cat([state[name].flatten() for name in sorted(checkpoint.encoder.stored_names())])


def test_a_gradient_learner_gets_better_and_the_seed_decides(tmp_path: Path) -> None:
    def mse(checkpoint: Checkpoint) -> float:
        return evaluate(checkpoint, "sinusoids", sinusoids(10, 50, seed=1), 50).mean

    torch.manual_seed(99)
    first = trained(curves(), tmp_path / "a")
    torch.manual_seed(7)
    again = trained(curves(), tmp_path / "b")
    other = trained(curves().model_copy(update={"seed": 1}), tmp_path / "c")
    assert weights(first).equal(weights(again)) and not weights(first).equal(weights(other))
    assert mse(trained(curves(steps=300), tmp_path / "d")) < 0.8 * mse(trained(curves(steps=0), tmp_path / "e"))


def test_a_metric_learner_gets_better(tmp_path: Path) -> None:
    data = data_folder("omniglot/omniglot28_bits.npz")
    recipe = glyphs()
    pool = load_pool("omniglot", "test", data, recipe.input)

    def accuracy(checkpoint: Checkpoint) -> float:
        return evaluate(checkpoint, "omniglot", episodes(pool, EpisodeShape(5, 1, 5), seed=1), 60).mean

    before, after = trained(glyphs(steps=0), tmp_path / "a", data), trained(recipe, tmp_path / "b", data)
    assert accuracy(after) > accuracy(before) + 0.1


def test_the_manifest_tells_how_it_was_made(tmp_path: Path) -> None:
    data = data_folder("omniglot/omniglot28_bits.npz")
    trained(glyphs(steps=2), tmp_path / "made", data)
    lineage = load_checkpoint(tmp_path / "made").manifest.lineage
    assert (lineage.command, lineage.steps, lineage.seed) == ("the command", 2, 0)
    (source,) = lineage.data
    assert source.split.startswith("valid") and source.n_classes == 172 * 4
    assert source.sha256 == "8f79dc227bd5f2af1f082b92c9fca3b293e6391f6f1f02abc00eb023a85b64ca"


def test_a_gradient_learner_starts_from_a_metric_learner(tmp_path: Path) -> None:
    data = data_folder("omniglot/omniglot28_bits.npz")
    parent = trained(glyphs(steps=3), tmp_path / "small-glyphs", data)
    fields = glyphs(steps=0).model_dump() | {
        "name": "child",
        "encoder": {"name": "conv4", "options": {"channels": 8, "norm": "affine"}},
        "learner": {"name": "maml"},
        "start": {"parent": "small-glyphs", "gain": 3.0},
    }
    child = trained(Recipe.model_validate(fields), tmp_path / "child", data)
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(child.encoder(x), 3 * parent.encoder(x), rtol=1e-4, atol=1e-5)
    assert child.manifest.lineage.parent == "small-glyphs"


def test_training_that_diverges_stops_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step"):
        trained(curves(options={"inner_lr": 10.0, "inner_steps": 20}), tmp_path / "a")


def test_folds_ask_about_each_example_once() -> None:
    """Two-dimensional clusters far apart: the loss is nearly 0, with shuffled labels it is not."""
    labels = np.arange(40) % 4
    corners = np.array([[0, 0], [0, 9], [9, 0], [9, 9]], np.float32)
    vectors = corners[labels] + np.random.default_rng(0).normal(0, 0.1, (40, 2)).astype(np.float32)
    encoder, learner = build_encoder(EncoderSpec(name="identity"), VectorInput()), get_learner("protonet")
    head = learner.init_head(encoder, "classification", None, torch.Generator())

    def loss(names: list[str]) -> float:
        shape, rng = EpisodeShape(4, 2, 1), np.random.default_rng(1)
        pool, training = pool_from_labels(vectors, names), Training(steps=1)
        drawn = draw(pool, shape, training, rng)
        return float(folded_meta_loss(learner, encoder, head, pool, drawn, {}, training).detach())

    assert loss([str(label) for label in labels]) < 1e-3
    assert loss([str(label) for label in np.random.default_rng(0).permutation(labels)]) > 1


def test_precomputed_features_give_the_same_embeddings() -> None:
    texts = [f"text number {i} about {word}" for i, word in enumerate(["cards", "money", "travel", "food"] * 3)]
    pool = pool_from_labels(texts, [str(i % 4) for i in range(12)])
    encoder = build_encoder(EncoderSpec(name="text", options={"random_features": 256}), TextInput()).eval()
    short, features = precompute(encoder, pool)
    cpu = torch.device("cpu")
    torch.testing.assert_close(short.embed(features.inputs, cpu), encoder.embed(texts, cpu), rtol=1e-4, atol=1e-5)
    assert precompute(short, pool) == (short, pool)


def test_the_interval_is_1_96_standard_errors() -> None:
    checkpoint = load_checkpoint(CHECKPOINTS / "curves")
    row = evaluate(checkpoint, "sinusoids", sinusoids(10, 20, seed=1), 33)
    alone = [evaluate(checkpoint, "one", iter([task, task]), 2).mean for task in _take(33)]
    assert row.mean == pytest.approx(np.mean(alone), rel=1e-4)
    assert row.interval == pytest.approx(1.96 * np.std(alone, ddof=1) / np.sqrt(33), rel=1e-4)
    assert (row.k_shot, row.n_way, row.metric, row.episodes) == (10, None, "mse", 33)


def _take(count: int) -> list:
    tasks = sinusoids(10, 20, seed=1)
    return [next(tasks) for _ in range(count)]


def test_more_inner_steps_can_be_asked_of_an_evaluation() -> None:
    checkpoint = load_checkpoint(CHECKPOINTS / "curves")
    one, five = (
        evaluate(checkpoint, "s", sinusoids(10, 50, seed=3), 50, LearnerOptions(inner_steps=steps)).mean
        for steps in (1, 5)
    )
    assert five < one


def test_the_command_trains_measures_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    text = (CHECKPOINTS / "curves" / "recipe.toml").read_text()
    text = text.replace("steps = 12000", "steps = 4").replace("n_query = 100", "n_query = 5\nepisodes = 3")
    recipe.write_text(text)
    arguments = [str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    main(arguments)
    assert "step 4/4" in capsys.readouterr().out
    manifest = load_checkpoint(tmp_path / "out").manifest
    assert [(row.k_shot, row.episodes) for row in manifest.evaluation] == [(10, 3), (5, 3)]
    main([*arguments, "--evaluate-only"])
    assert load_checkpoint(tmp_path / "out").manifest.evaluation == manifest.evaluation


@pytest.mark.parametrize(
    ("text", "message"),
    [("name = ", "TOML"), ("name = 'a'", "description"), ("name = 'UPPER'\ndescription = ''", "name")],
)
def test_wrong_recipes_say_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(Invalid, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_missing_data_is_said(tmp_path: Path) -> None:
    for name, message in (("omniglot", "is missing"), ("imagenet", "unknown data set")):
        with pytest.raises(Invalid, match=message):
            load_pool(name, "train", tmp_path, glyphs().input)


@pytest.mark.parametrize(
    ("sizes", "k_shot", "n_query"), [((3, 10), (1, 5), 5), ((4, 4), (1, 2), 2), ((2, 1), (1, 1), 1)]
)
def test_recorded_tasks_are_asked_for_no_more_than_half_of_them_have(
    sizes: tuple[int, int], k_shot: tuple[int, int], n_query: int
) -> None:
    large, small = max(sizes), min(sizes)
    rows = [np.arange(large)] * 6 + [np.arange(small)] * 4
    pool = Pool(np.zeros((large, 1)), tuple("abcdefghij"), tuple(rows), ((0, 1, 2), (3, 4, 5), (6, 7, 8, 9)))
    training = Training(steps=1, n_way=(5, 20), k_shot=(1, 5), n_query=5)
    shown = fitted(training, pool)
    assert (shown.k_shot, shown.n_query) == (k_shot, n_query)
    assert fitted(training, Pool(pool.inputs, pool.classes, pool.rows)) == training


@pytest.mark.parametrize("head", [True, False])
def test_a_run_begins_at_its_parents_head_where_it_is_told_to(tmp_path: Path, head: bool) -> None:
    recipe = curves(steps=1)
    parent = meta_train(recipe, Path(), tmp_path / "parent", "tests")
    changes = {"name": "child", "start": {"parent": "parent", "head": head}, "seed": 5}
    first = first_model(Recipe.model_validate(recipe.model_dump() | changes), Path(), tmp_path)
    alike = [torch.equal(first.head[name], tensor) for name, tensor in parent.head.items()]
    assert all(alike) == head
