"""A mapped encoder: its source unmoved, its start the identity, inputs in the source's form, a checkpoint by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, ImageInput, LearnerSpec, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.base import Encoder
from kshot.encoders.mapped import Mapped, as_source
from kshot.encoders.registry import build_encoder
from kshot.learners.base import Support
from kshot.learners.registry import get_learner

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
CPU = torch.device("cpu")
GREY = ImageInput(height=28, width=28, channels=1, invert=True)
COLOUR = ImageInput(height=40, width=60, channels=3)


def mapped(spec: ImageInput = COLOUR, **options: object) -> Mapped:
    source = {"source": {"name": "conv4"}, "source_input": GREY.model_dump()}
    encoder = build_encoder(EncoderSpec(name="mapped", options=source | {"hidden": 8} | options), spec).eval()
    assert isinstance(encoder, Mapped)
    return encoder


def pictures(n: int = 5, spec: ImageInput = COLOUR) -> np.ndarray:
    shape = (n, spec.height, spec.width, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_before_training_it_is_the_source_normalised() -> None:
    encoder, x = mapped(GREY), pictures(spec=GREY)
    expected = torch.nn.functional.normalize(encoder.source.embed(x, CPU), dim=1)
    torch.testing.assert_close(encoder.embed(x, CPU), expected)


def test_training_moves_the_map_and_not_the_source() -> None:
    encoder, x = mapped().train(), pictures()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    optimiser = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], 0.1)
    for _ in range(2):  # W1 has no gradient while W2 is 0
        encoder.embed(x, CPU)[:, 0].sum().backward()
        optimiser.step()
    moved = {name for name, tensor in encoder.state_dict().items() if not tensor.equal(before[name])}
    assert moved == {"map.inner.weight", "map.inner.bias", "map.outer.weight"}


def test_another_width_is_projected() -> None:
    encoder = mapped(width=7)
    assert encoder.embed(pictures(), CPU).shape == (5, 7) and encoder.out_dim == 7


def test_pictures_take_the_sources_form() -> None:
    grey = np.zeros((2, 28, 28, 1), np.uint8)
    grey[:, :14] = 255
    colour = ImageInput(height=56, width=56, channels=3)
    made = as_source(grey, GREY, colour)
    assert isinstance(made, np.ndarray) and made.shape == (2, 56, 56, 3) and made.dtype == np.uint8
    assert made[0, 0, 0].tolist() == [0, 0, 0] and made[0, -1, 0].tolist() == [255, 255, 255]  # ink is dark again
    back = as_source(made, colour, GREY)
    assert isinstance(back, np.ndarray) and np.abs(back.astype(int) - grey)[:, [0, 5, 20, 27]].max() == 0


def test_a_crop_keeps_the_middle_and_a_stretch_everything() -> None:
    wide = np.zeros((1, 20, 40, 3), np.uint8)
    wide[:, :, :10] = 255
    spec = ImageInput(height=20, width=40, channels=3)
    cropped = as_source(wide, spec, ImageInput(height=20, width=20, channels=3))
    stretched = as_source(wide, spec, ImageInput(height=20, width=20, channels=3, fit="stretch"))
    assert isinstance(cropped, np.ndarray) and isinstance(stretched, np.ndarray)
    assert cropped.max() == 0 and stretched[0, 0, 0, 0] > 200


def test_texts_stay_texts() -> None:
    source = {"source": {"name": "text"}, "source_input": TextInput().model_dump()}
    encoder = build_encoder(EncoderSpec(name="mapped", options=source), TextInput()).eval()
    plain: Encoder = build_encoder(EncoderSpec(name="text"), TextInput()).eval()
    texts = ["where is my card", "send money"]
    torch.testing.assert_close(encoder.embed(texts, CPU), plain.embed(texts, CPU))
    assert not any("backbone" in name for name in encoder.stored_names())


@pytest.mark.parametrize("target", [TextInput(), VectorInput(width=3)])
def test_a_source_of_another_kind_is_refused(target: TextInput | VectorInput) -> None:
    options = {"source": {"name": "conv4"}, "source_input": GREY.model_dump()}
    with pytest.raises(Invalid):
        build_encoder(EncoderSpec(name="mapped", options=options), target)


def test_the_checkpoint_holds_its_source_and_adapts_like_any_other(tmp_path: Path) -> None:
    encoder = mapped()
    torch.manual_seed(0)
    torch.nn.init.normal_(encoder.map.outer.weight)
    manifest = load_checkpoint(CHECKPOINTS / "glyphs").manifest
    options = {"source": {"name": "conv4"}, "source_input": GREY.model_dump(), "hidden": 8}
    changes = {
        "name": "mapped",
        "input": COLOUR,
        "encoder": EncoderSpec(name="mapped", options=options),
        "learner": LearnerSpec(name="protonet"),
    }
    save_checkpoint(tmp_path, Checkpoint(manifest.model_copy(update=changes), encoder, {"log_scale": torch.zeros(())}))
    found, x = load_checkpoint(tmp_path), pictures(6)
    torch.testing.assert_close(found.encoder.embed(x, CPU), encoder.embed(x, CPU))
    learner = get_learner("protonet")
    support = Support("classification", x, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    (state,) = learner.adapt(found, [support], LearnerOptions())
    (output,) = learner.predict(found, [state], [x])
    assert output.logits is not None and output.logits.shape == (6, 3)
