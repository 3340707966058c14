"""Training a mapping onto real drawings, resumed as if never stopped, compared on the same episodes."""

from pathlib import Path

import pytest
import torch

from examples.mapping_loop import Map, centred, hint_loss
from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.encoders.mapped import Mapped, ResidualMap
from kshot.encoders.registry import build_encoder
from kshot.episodes.sampling import EpisodeShape
from kshot.training.comparison import IDENTITY, MAPPING, compare, evaluation_rows, write_comparison
from kshot.training.loop import Unfinished
from kshot.training.losses import training_pool
from kshot.training.mapping import TEACHER, train_mapping
from tests.kshot.data_folder import data_folder

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
TEACHER_SPEC = {"name": "conv4", "options": {"channels": 4}}
OMNIGLOT = "omniglot/omniglot28_bits.npz"


def recipe(steps: int = 4, **changes: object) -> Recipe:
    training = {"steps": steps, "n_way": (4, 4), "k_shot": (1, 1), "n_query": 2, "lr": 1e-2}
    return Recipe.model_validate(
        {
            "name": "mapped-glyphs",
            "description": "for tests",
            "tasks": ["classification"],
            "input": {"modality": "image", "height": 28, "width": 28, "channels": 1, "invert": True},
            "encoder": {"name": "mapped", "options": {"hidden": 16}},
            "learner": {"name": "protonet"},
            "start": {"parent": "source"},
            "hint": {
                "weight": 0.5,
                "teacher": {"name": "conv4", "options": {"channels": 4}},
                "training": training | {"steps": 3},
            },
            "data": {"name": "omniglot", "split": "valid", "classes": 4},
            "training": training | {"scheme": "mapping"},
        }
        | changes
    )


def source() -> Checkpoint:
    """Random convolutions that read other pictures: in colour, a little larger, dark on light."""
    spec = EncoderSpec(name="conv4", options={"channels": 8, "norm": "group"})
    reads = ImageInput(height=32, width=32, channels=3)
    torch.manual_seed(5)
    manifest = load_checkpoint(CHECKPOINTS / "glyphs").manifest.model_copy(update={"encoder": spec, "input": reads})
    return Checkpoint(manifest, build_encoder(spec, reads).eval(), {})


def trained(folder: Path, data: Path, wanted: Recipe, minutes: float | None = None) -> Checkpoint:
    if not (folder / "source").is_dir():
        save_checkpoint(folder / "source", source())
    return train_mapping(wanted, data, folder / "out", "the command", lambda _: None, minutes)


def weights(checkpoint: Checkpoint) -> torch.Tensor:
    assert isinstance(checkpoint.encoder, Mapped)
    return torch.cat([tensor.flatten() for tensor in checkpoint.encoder.map.state_dict().values()])


def test_it_learns_its_classes_and_keeps_the_source(tmp_path: Path) -> None:
    data = data_folder(OMNIGLOT)
    checkpoint, wanted = trained(tmp_path, data, recipe(40)), recipe(40)
    assert isinstance(checkpoint.encoder, Mapped)
    torch.testing.assert_close(checkpoint.encoder.source.state_dict(), source().encoder.state_dict())
    assert set(checkpoint.head) == {"log_scale"}  # what reads hints is for training alone
    lineage = checkpoint.manifest.lineage
    assert lineage.parent == "source" and lineage.steps == 40 and lineage.data[0].n_classes == 4
    teacher, pool = load_checkpoint(tmp_path / "out" / TEACHER), training_pool(wanted, data)
    assert len(pool.classes) == 4
    shape = EpisodeShape(4, 1, 5)
    found = {each.how: each for each in compare(checkpoint, teacher, pool, tmp_path, shape, 40, 0)}
    assert found[MAPPING].accuracy.mean > found[IDENTITY].accuracy.mean + 0.05  # its own training classes: of course
    ahead = found[MAPPING].accuracy.mean - found[IDENTITY].accuracy.mean
    assert found[IDENTITY].mapping_ahead.mean == pytest.approx(ahead, abs=1e-9)
    assert found[MAPPING].mapping_ahead.mean == 0
    (row,) = evaluation_rows("omniglot valid", list(found.values()), 40)
    assert row.mean == found[MAPPING].accuracy.mean and row.episodes == 40
    write_comparison(tmp_path, list(found.values()))
    assert "ridge on source features" in (tmp_path / "comparison.json").read_text()


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    data = data_folder(OMNIGLOT)
    whole = trained(tmp_path / "a", data, recipe())
    sittings = 0
    while True:
        sittings += 1
        try:
            parts = trained(tmp_path / "b", data, recipe(), minutes=0.0)
            break
        except Unfinished:
            assert sittings < 8  # a teacher that began anew at each sitting would never let the map begin
    assert sittings > 3 and weights(parts).equal(weights(whole))


def test_a_recipe_without_source_or_hint_is_refused(tmp_path: Path) -> None:
    for missing in ("start", "hint", "data"):
        with pytest.raises(Invalid, match="mapping needs"):
            train_mapping(recipe(**{missing: None}), tmp_path, tmp_path / "out", "c")


def test_more_classes_than_there_are_is_refused() -> None:
    wanted = recipe(data={"name": "omniglot", "split": "valid", "classes": 1000})
    with pytest.raises(Invalid, match="688 classes"):
        training_pool(wanted, data_folder(OMNIGLOT))


def test_the_map_is_that_of_the_loop() -> None:
    torch.manual_seed(0)
    ours, loop, z = ResidualMap(6, 5, 6), Map(6, 5), torch.randn(4, 6)
    torch.nn.init.normal_(ours.outer.weight)
    loop.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(z), loop(z))
    encoder = Mapped.__new__(Mapped)
    torch.nn.Module.__init__(encoder)
    encoder.register_buffer("centre", torch.randn(6))
    encoder.map = ours
    torch.testing.assert_close(encoder.tune(z), loop(centred(z, encoder.centre)))
    assert float(hint_loss(z, z + 2)) == pytest.approx(4.0)
