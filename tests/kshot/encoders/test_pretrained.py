"""Pretrained folders, tiny ones made here: the library's own answers, and nothing read that must not be.

Longer than 300 lines because both libraries' folders are made here from nothing.
"""

import io
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kshot.checkpoints import Checkpoint, dump_checkpoint, parse_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, ImageInput, TextInput, VectorInput
from kshot.contracts.errors import Invalid, Unavailable
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.base import Encoder
from kshot.encoders.model_folders import SETTING, find_folder, fingerprint, library
from kshot.encoders.pretrained import picture_input, recipe_lines
from kshot.encoders.registry import build_encoder
from kshot.inputs.images import decode_image
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of

CPU = torch.device("cpu")
TEXTS = ["my card has not arrived", "where is my new card ?", "book a table for two"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "my",
    "card",
    "has",
    "not",
    "arrived",
    "where",
    "is",
    "new",
    "book",
    "a",
    "table",
    "for",
    "two",
    "?",
    "ask",
    ":",
]


def make_pictures_model(folder: Path) -> None:
    """A random network of timm's test size: 32 pixels seen of 40, bicubic, a mean of its own."""
    timm = library("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5)
    data = {"input_size": (3, 32, 32), "crop_pct": 0.8, "interpolation": "bicubic", "mean": (0.4, 0.5, 0.6)}
    library("timm.models").save_for_hf(model, str(folder), safe_serialization=True, data_config=data)


def make_texts_model(folder: Path) -> None:
    """One layer of BERT, width 32, mean pooling, a dense layer to 16, normalised, and a default prompt."""
    transformers, modules = library("transformers"), library("sentence_transformers.sentence_transformer.modules")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37,
        max_position_embeddings=64,
    )  # fmt: skip
    bert = folder.with_name("bert")
    transformers.BertModel(config).save_pretrained(bert)
    transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(bert)
    base = library("sentence_transformers.base.modules")
    parts = [base.Transformer(str(bert), max_seq_length=16), modules.Pooling(32, pooling_mode="mean")]
    parts += [base.Dense(32, 16), base.Normalize()]
    prompts = {"prompts": {"ask": "ask : "}, "default_prompt_name": "ask"}
    library("sentence_transformers").SentenceTransformer(modules=parts, device="cpu", **prompts).save(str(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    try:
        make_pictures_model(root / "pictures")
        make_texts_model(root / "texts")
    except Unavailable as missing:
        pytest.skip(missing.message)
    return root


@pytest.fixture
def models(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage, below the folder that the setting names."""
    shutil.copytree(made, tmp_path / "models")
    monkeypatch.setenv(SETTING, str(tmp_path / "models"))
    return tmp_path / "models"


def spec_of(models: Path, name: str) -> EncoderSpec:
    return EncoderSpec(name="pretrained", options={"path": name, "sha256": fingerprint(models / name)})


def input_of(models: Path, name: str) -> ImageInput | TextInput:
    return TextInput() if name == "texts" else picture_input(json.loads((models / name / "config.json").read_text()))


def build(models: Path, name: str) -> Encoder:
    return build_encoder(spec_of(models, name), input_of(models, name)).eval()


def photo(width: int, height: int) -> bytes:
    """A PNG with soft shapes: scaling filters agree on those to a grey level or so."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 9 + k) * np.cos(y / 11 - k) for k in range(3)]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height", "tolerance"), [(100, 100, 1e-5), (120, 80, 0.1)])
def test_pictures_reach_the_model_as_timm_would_prepare_them(
    models: Path, width: int, height: int, tolerance: float
) -> None:
    spec, encoder = input_of(models, "pictures"), build(models, "pictures")
    prepared = encoder.prepare(decode_image(photo(width, height), spec)[None], CPU)
    data = library("timm.data")
    stored = json.loads((models / "pictures/config.json").read_text())
    config = data.resolve_data_config(pretrained_cfg=stored["pretrained_cfg"])
    theirs = data.create_transform(**config, is_training=False)(Image.open(io.BytesIO(photo(width, height))))
    assert prepared.shape == (1, 3, 32, 32)
    torch.testing.assert_close(prepared[0], theirs, rtol=0, atol=tolerance)


def test_picture_features_are_those_of_timm(models: Path) -> None:
    encoder = build(models, "pictures")
    x = torch.randn(40, 3, 32, 32)
    reference = library("timm").create_model(f"local-dir:{models / 'pictures'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(x), reference(x), rtol=1e-4, atol=1e-5)
    assert encoder.out_dim == encoder(x[:1]).shape[1] == 96


def test_text_features_are_those_of_sentence_transformers(models: Path) -> None:
    encoder = build(models, "texts")
    reference = library("sentence_transformers").SentenceTransformer(str(models / "texts"), device="cpu")
    wanted = torch.from_numpy(reference.encode(TEXTS))
    found = encoder.features(encoder.prepare(TEXTS, CPU))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    plain = torch.from_numpy(reference.encode(TEXTS, prompt=""))
    assert encoder.out_dim == 16 and not torch.allclose(found, plain, atol=1e-3)


@pytest.mark.parametrize("name", ["pictures", "texts"])
def test_an_embedding_does_not_depend_on_its_neighbours(models: Path, name: str) -> None:
    encoder = build(models, name)
    inputs = TEXTS * 20
    if name == "pictures":
        inputs = np.random.default_rng(0).integers(0, 256, (60, 40, 40, 3), dtype=np.uint8)
    together = encoder.embed(inputs, CPU)
    alone = torch.cat([encoder.embed(inputs[i : i + 1], CPU) for i in (0, 1, 2, 59)])
    torch.testing.assert_close(together[[0, 1, 2, 59]], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["pictures", "texts"])
def test_a_checkpoint_holds_the_centre_and_names_the_model(models: Path, name: str) -> None:
    encoder, bare = build(models, name), checkpoint_of(Case("ridge", "classification", "identity"))
    encoder.centre_on(torch.randn(9, encoder.out_dim))
    update = {"encoder": spec_of(models, name), "input": input_of(models, name)}
    manifest = bare.manifest.model_copy(update=update)
    stored = dump_checkpoint(Checkpoint(manifest, encoder, bare.head))
    assert len(stored[1]) < 2000
    back = parse_checkpoint(*stored)
    inputs = TEXTS if name == "texts" else np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    torch.testing.assert_close(back.encoder.embed(inputs, CPU), encoder.embed(inputs, CPU), rtol=0, atol=0)
    support = Support("classification", inputs, torch.tensor([0, 1, 1]), 2)
    ridge = LEARNERS["ridge"]
    output = ridge.predict(back, ridge.adapt(back, [support], LearnerOptions()), [inputs])[0]
    assert output.logits is not None and output.logits.argmax(1).tolist() == [0, 1, 1]


def test_nothing_of_the_model_is_trained(models: Path) -> None:
    for name in ("pictures", "texts"):
        encoder = build(models, name).train()
        assert encoder.frozen and encoder.stored_names() == {"centre"} and not encoder.backbone.training
        assert not any(p.requires_grad for p in encoder.parameters())


def test_the_recipe_of_a_folder_builds_its_encoder(models: Path) -> None:
    for name in ("pictures", "texts"):
        recipe = tomllib.loads(recipe_lines(name))
        kind = TextInput if name == "texts" else ImageInput
        build_encoder(EncoderSpec.model_validate(recipe["encoder"]), kind.model_validate(recipe["input"]))


@pytest.mark.parametrize("path", ["..", ".", "", "../models/texts/../..", "/etc", "texts/../../elsewhere", "link"])
def test_no_manifest_reads_outside_the_folder_of_models(models: Path, path: str) -> None:
    shutil.copytree(models / "texts", models.parent / "elsewhere")
    (models / "link").symlink_to(models.parent / "elsewhere")
    with pytest.raises(Invalid, match="stays below") as refusal:
        build_encoder(EncoderSpec(name="pretrained", options={"path": path, "sha256": ""}), TextInput())
    assert str(models) not in refusal.value.message


def test_a_linked_file_from_elsewhere_is_refused(models: Path) -> None:
    spec, weights = spec_of(models, "texts"), models / "texts/model.safetensors"
    shutil.move(weights, models.parent / "elsewhere.safetensors")
    weights.symlink_to(models.parent / "elsewhere.safetensors")
    with pytest.raises(Invalid, match="outside"):
        build_encoder(spec, TextInput())


@pytest.mark.parametrize(("name", "weights"), [("texts", ""), ("texts", "2_Dense"), ("pictures", "")])
def test_pickled_weights_are_refused(models: Path, name: str, weights: str) -> None:
    folder = models / name / weights
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Invalid, match=r"save_file\(torch\.load"):
        build(models, name)


@pytest.mark.parametrize("decoy", ["x.safetensors", "model.safetensors.index.json"])
@pytest.mark.parametrize("folder", ["", "2_Dense"])
def test_a_decoy_beside_pickled_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, decoy: str
) -> None:
    """A module falls back on pickled weights unless the safe ones have the name it looks for."""
    monkeypatch.setenv(SETTING, str(tmp_path))
    module = tmp_path / "texts" / folder
    module.mkdir(parents=True)
    (tmp_path / "texts" / "model.safetensors").touch()
    assert find_folder("texts") == tmp_path / "texts"
    if not folder:
        (module / "model.safetensors").unlink()
    (module / decoy).touch()
    (module / "pytorch_model.bin").touch()
    with pytest.raises(Invalid, match="never read"):
        find_folder("texts")


def test_shards_with_their_index_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, str(tmp_path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "model-00001-of-00001.safetensors").touch()
    with pytest.raises(Invalid, match="never read"):
        find_folder("texts")
    (tmp_path / "texts" / "model.safetensors.index.json").touch()
    assert find_folder("texts") == tmp_path / "texts"


def test_pickled_weights_beside_safe_ones_are_not_read(models: Path) -> None:
    for folder in (models / "texts", models / "texts/2_Dense", models / "pictures"):
        (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert build(models, "texts").out_dim == 16 and build(models, "pictures").out_dim == 96


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_another_model_in_the_same_place_is_refused(models: Path, file: str) -> None:
    spec = spec_of(models, "texts")
    with (models / "texts" / file).open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(Invalid, match="sha256 differs"):
        build_encoder(spec, TextInput())


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"architecture": "hf-hub:timm/resnet18.a1_in1k"},
        {"architecture": "local-dir:/etc"},
        {"model_args": {"checkpoint_path": "/etc/passwd"}},
        {"model_args": {"num_classes": 7}},
    ],
)
def test_a_config_names_an_architecture_and_nothing_to_load(models: Path, values: dict[str, object]) -> None:
    change(models / "pictures/config.json", **values)
    with pytest.raises(Invalid, match="architecture"):
        build(models, "pictures")


@pytest.mark.parametrize(
    "module", [{"type": "os.system"}, {"type": "sentence_transformers.models.CLIPModel"}, {"path": "../pictures"}]
)
def test_modules_of_other_kinds_are_refused(models: Path, module: dict[str, str]) -> None:
    file = models / "texts/modules.json"
    modules = json.loads(file.read_text())
    file.write_text(json.dumps([modules[0], {**modules[1], **module}]))
    with pytest.raises(Invalid, match="is made of Dense, Normalize, Pooling, Transformer"):
        build(models, "texts")


def test_another_input_spec_is_told_the_right_one(models: Path) -> None:
    with pytest.raises(Invalid, match=r'"height":40.*"interpolation":"bicubic"'):
        build_encoder(spec_of(models, "pictures"), ImageInput(height=32, width=32, channels=3))
    with pytest.raises(Invalid, match="pictures or texts"):
        build_encoder(spec_of(models, "pictures"), VectorInput(width=3))


def test_a_machine_without_models_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    with pytest.raises(Unavailable, match=SETTING):
        build_encoder(EncoderSpec(name="pretrained", options={"path": "a", "sha256": ""}), TextInput())


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(Unavailable, match=r"kshot\[pretrained\]"):
        library("no_such_package_at_all")


def test_who_does_not_use_it_does_not_load_it() -> None:
    loaded = "bool({'timm', 'transformers', 'torchvision'} & set(sys.modules))"
    code = f"import kshot.encoders.registry, sys; sys.exit({loaded})"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
