"""Jobs are planned so that {dataset, name} alone is a sensible one, and what would not run is refused by field."""

from typing import Any

import pytest

from kshot.contracts.checkpoints import (
    EncoderSpec,
    ImageInput,
    InputSpec,
    LearnerSpec,
    Lineage,
    Manifest,
    TextInput,
    VectorInput,
)
from kshot.contracts.datasets import Columns, DatasetManifest, PartCount, Pictures, RecordedFrom
from kshot.contracts.errors import Invalid
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.recipe import Recipe
from kshot.planning.plan import minutes, plan

SIZES = {"train": 60, "valid": 15, "test": 30}


def dataset(**fields: Any) -> DatasetManifest:
    """Classes of pictures, unless the fields say otherwise."""
    common = {"id": "ds-1", "name": "mine", "format": "image_zip", "modality": "image", "file": "data.zip"}
    splits = {part: tuple(f"{part}{i}" for i in range(n)) for part, n in SIZES.items()}
    examples = fields.pop("examples", 20)
    sizes = {part: (examples,) * n for part, n in SIZES.items()}
    counts = {part: PartCount(n_classes=n, n_examples=n * examples) for part, n in SIZES.items()}
    split = {"splits": splits, "sizes": sizes, "counts": counts, "smallest": examples}
    return DatasetManifest.model_validate({**common, **split, **fields})


DRAWINGS = dataset(pictures=Pictures(greyscale=True, width=105, height=105, dark_on_light=True))
PHOTOS = dataset(pictures=Pictures(greyscale=False, width=300, height=200, dark_on_light=False))
TEXTS = dataset(format="text_csv", modality="text")
VECTORS = dataset(format="vector_npz", modality="vector", width=16)
CURVES = DatasetManifest(id="ds-1", name="curves", format="sinusoid", modality="vector", task="regression")
TABLE = DatasetManifest(
    id="ds-1",
    name="table",
    format="table_csv",
    modality="vector",
    task="multitask",
    width=9,
    columns=Columns(targets={"a": "regression", "b": "classification"}),
)
RECORDED = DatasetManifest(
    id="ds-1",
    name="recorded",
    format="recorded_tasks",
    modality="text",
    input=TextInput(),
    recorded=RecordedFrom(checkpoint="intents", tenants=("tn-1",)),
)


def planned(data: DatasetManifest, base: Manifest | None = None, **request: Any) -> Recipe:
    return plan(NewJobRequest.model_validate({"dataset": "d", "name": "made", **request}), data, base)


def checkpoint(name: str, inputs: InputSpec, learner: str = "ridge", **options: Any) -> Manifest:
    return Manifest(
        name="parent",
        description="",
        tasks=("classification",),
        input=inputs,
        encoder=EncoderSpec(name=name, options=options),
        learner=LearnerSpec(name=learner),
        lineage=Lineage.model_validate({"command": "", "code_version": "1", "created_at": "2026-01-01T00:00:00Z"}),
    )


def pretrained(path: str) -> dict[str, Any]:
    return {"encoder": {"name": "pretrained", "options": {"path": path, "sha256": "0" * 64}}}


GLYPHS = checkpoint("conv4", ImageInput(height=28, width=28, channels=1, invert=True), "protonet", pooling="max")
INTENTS = checkpoint("text", TextInput(), random_features=2048)


@pytest.mark.parametrize(
    ("data", "encoder", "learner", "scheme"),
    [
        (DRAWINGS, "conv4", "protonet", "folded"),
        (PHOTOS, "image", "ridge", "folded"),
        (TEXTS, "text", "ridge", "folded"),
        (VECTORS, "mlp", "ridge", "folded"),
        (VECTORS.model_copy(update={"width": 384}), "identity", "ridge", "folded"),
        (CURVES, "mlp", "maml", "episodes"),
        (TABLE, "hierarchy", "multitask", "multitask"),
        (RECORDED, "text", "ridge", "folded"),
    ],
)
def test_a_data_set_alone_is_a_job(data: DatasetManifest, encoder: str, learner: str, scheme: str) -> None:
    recipe = planned(data)
    assert (recipe.encoder.name, recipe.learner.name, recipe.training.scheme) == (encoder, learner, scheme)
    assert recipe.data is not None and recipe.data.name == "ds-1" and recipe.data.split == "train"
    assert all(row.split == "test" for row in recipe.evaluation)


def test_drawings_are_inverted_turned_and_trained_for_a_quarter_of_an_hour() -> None:
    recipe, request = planned(DRAWINGS), NewJobRequest(dataset="d", name="made")
    assert isinstance(recipe.input, ImageInput) and recipe.input.invert and recipe.input.channels == 1
    assert recipe.data is not None and recipe.data.rotations
    assert (recipe.training.n_way, recipe.training.k_shot, recipe.training.n_query) == ((100, 100), (2, 2), 1)
    assert recipe.training.steps == 0 and minutes(request, recipe) == 15
    light = DRAWINGS.pictures.model_copy(update={"dark_on_light": False}) if DRAWINGS.pictures else None
    other = planned(DRAWINGS.model_copy(update={"pictures": light}))
    assert isinstance(other.input, ImageInput) and not other.input.invert


def test_time_is_said_where_it_is_asked_for() -> None:
    request = NewJobRequest(dataset="d", name="made", time_budget=90)
    assert minutes(request, plan(request, TEXTS, None)) == 1.5
    request = NewJobRequest(dataset="d", name="made", steps=7)
    recipe = plan(request, DRAWINGS, None)
    assert recipe.training.steps == 7 and minutes(request, recipe) is None


def test_usual_episodes_shrink_to_what_there_is() -> None:
    few = planned(dataset(examples=2, pictures=DRAWINGS.pictures), augment={"rotations": False})
    assert (few.training.n_way, few.training.k_shot, few.training.n_query) == ((60, 60), (1, 1), 1)
    assert {(row.n_way, row.k_shot, row.n_query) for row in few.evaluation} == {(5, 1, 1), (20, 1, 1)}
    none = planned(dataset(splits={"train": ("a", "b", "c")}, sizes={"train": (9, 9, 9)}, counts={}))
    assert none.evaluation == [] and none.training.n_way == (3, 3)


def test_classes_with_too_few_examples_do_not_count() -> None:
    sizes = {"train": (30,) * 40 + (1,) * 20, "valid": (30,) * 15, "test": (30,) * 30}
    some = dataset(sizes=sizes, smallest=1, format="text_csv", modality="text")
    assert planned(some).training.n_way == (5, 40)
    refused("episode.n_way", some, episode={"n_way": 41})


def test_processes_that_share_a_meta_batch_have_an_episode_each() -> None:
    assert planned(DRAWINGS, workers_per_job=3).training.meta_batch == 3
    refused("workers_per_job", DRAWINGS, workers_per_job=3, meta_batch=2)


def test_processes_that_share_a_meta_batch_drop_no_units() -> None:
    assert planned(TABLE).encoder.options["dropout"] > 0
    assert planned(TABLE, workers_per_job=2).encoder.options["dropout"] == 0
    encoder = {"name": "hierarchy", "options": {"dropout": 0.1}}
    refused("encoder.options.dropout", TABLE, workers_per_job=2, encoder=encoder)


def test_a_base_checkpoint_is_where_training_begins() -> None:
    same = planned(DRAWINGS, GLYPHS, base_checkpoint="parent")
    assert same.start is not None and same.start.parent == "parent"
    assert (same.encoder, same.learner.name) == (GLYPHS.encoder, "protonet")
    adapted = planned(DRAWINGS, GLYPHS, learner="maml")
    assert adapted.encoder.options["norm"] == "task" and adapted.training.scheme == "episodes"
    mapped = planned(TEXTS, INTENTS)
    assert mapped.encoder.name == "mapped" and mapped.learner.name == "ridge"
    assert mapped.encoder.options["source"] == INTENTS.encoder.model_dump(mode="json")
    again = planned(TEXTS, checkpoint("mapped", TextInput(), **mapped.encoder.options))
    assert again.encoder == mapped.encoder
    explicit = planned(DRAWINGS, GLYPHS, encoder="mapped", learner="ridge")
    assert explicit.encoder.options["source_input"] == GLYPHS.input.model_dump(mode="json")


def refused(param: str, data: DatasetManifest, base: Manifest | None = None, **request: Any) -> str:
    with pytest.raises(Invalid) as raised:
        planned(data, base, **request)
    assert raised.value.param == param
    return raised.value.message


@pytest.mark.parametrize(
    ("param", "data", "request_"),
    [
        ("time_budget", DRAWINGS, {"steps": 5, "time_budget": 60}),
        ("learner", DRAWINGS, {"learner": "nonsense"}),
        ("learner", DRAWINGS, {"learner": "finetune"}),
        ("learner", CURVES, {"learner": "protonet"}),
        ("learner", TABLE, {"learner": "ridge"}),
        ("learner", TEXTS, {"learner": "maml"}),
        ("learner", PHOTOS, {"learner": "anil", "encoder": "image"}),
        ("learner", TEXTS, {"learner": "contrastive"}),
        ("encoder", TEXTS, {"encoder": "conv4"}),
        ("encoder", DRAWINGS, {"encoder": "nonsense"}),
        ("encoder", TEXTS, {"encoder": "mapped"}),
        ("encoder", TABLE, {"encoder": "identity"}),
        ("encoder.options.channels", DRAWINGS, {"encoder": {"name": "conv4", "options": {"channels": "many"}}}),
        ("encoder.options.colour", DRAWINGS, {"encoder": {"name": "conv4", "options": {"colour": 1}}}),
        ("encoder.options.norm", DRAWINGS, {"encoder": {"name": "conv4", "options": {"norm": "task"}}}),
        (
            "encoder.options.norm",
            DRAWINGS,
            {"encoder": {"name": "conv4", "options": {"norm": "batch"}}, "learner": "maml"},
        ),
        ("encoder.options.random_features", TEXTS, {"encoder": {"name": "text", "options": {"random_features": 100}}}),
        ("encoder.options.path", TEXTS, pretrained("/srv/models/x")),
        ("encoder.options.path", TEXTS, pretrained("x/../../models")),
        ("episode.n_way", DRAWINGS, {"episode": {"n_way": 241}}),
        ("episode.n_way", DRAWINGS, {"episode": {"n_way": 61}, "augment": {"rotations": False}}),
        ("episode.n_way", DRAWINGS, {"episode": {"n_way": [9, 5]}}),
        ("episode.k_shot", DRAWINGS, {"episode": {"k_shot": 20}}),
        ("episode.n_query", DRAWINGS, {"episode": {"n_query": 20}}),
        ("episode.n_way", CURVES, {"episode": {"n_way": 5}}),
        ("episode.k_shot", TABLE, {"episode": {"k_shot": 5}}),
        ("evaluate[0].n_way", DRAWINGS, {"evaluate": [{"n_way": 31, "k_shot": 1}]}),
        ("evaluate[1].k_shot", DRAWINGS, {"evaluate": [{"k_shot": 1}, {"k_shot": 20}]}),
        ("evaluate[0].k_shot", DRAWINGS, {"evaluate": [{"k_shot": 10, "n_query": 11}]}),
        ("evaluate[0].n_way", CURVES, {"evaluate": [{"n_way": 5, "k_shot": 5}]}),
        ("evaluate", TABLE, {"evaluate": [{"k_shot": 5}]}),
        ("augment.rotations", TEXTS, {"augment": {"rotations": True}}),
        ("augment.warp", VECTORS, {"augment": {"warp": 0.5}}),
        ("augment.warp", PHOTOS, {"augment": {"warp": 0.5}}),
        ("options.inner_lr", DRAWINGS, {"options": {"inner_lr": 0.1}}),
        ("options.inner_steps", DRAWINGS, {"options": {"inner_steps": 500}, "learner": "maml"}),
        ("options.inner_steps", DRAWINGS, {"options": {"inner_steps": True}, "learner": "maml"}),
        ("options.distance", DRAWINGS, {"options": {"distance": "far"}, "learner": "matching"}),
        ("optimiser.weight_decay", DRAWINGS, {"optimiser": {"name": "sgd", "weight_decay": 0.1}}),
        ("input.modality", DRAWINGS, {"input": {"modality": "text"}}),
        ("input.width", VECTORS, {"input": {"modality": "vector", "width": 5}}),
        ("input.height", DRAWINGS, {"input": {"modality": "image", "height": -1, "width": 28, "channels": 1}}),
        ("input", DRAWINGS, {"input": {"modality": "image", "height": 8, "width": 8, "channels": 1}}),
        ("input.channels", PHOTOS, {"input": {"modality": "image", "height": 64, "width": 64, "channels": 1}}),
        ("input", RECORDED, {"input": {"modality": "text", "max_chars": 50}}),
        (
            "augment.rotations",
            DRAWINGS,
            {"input": {"modality": "image", "height": 28, "width": 32, "channels": 1}, "augment": {"rotations": True}},
        ),
    ],
)
def test_what_would_not_run_is_refused_by_field(param: str, data: DatasetManifest, request_: dict[str, Any]) -> None:
    assert refused(param, data, **request_)


@pytest.mark.parametrize(
    ("param", "data", "base", "request_"),
    [
        ("base_checkpoint", TEXTS, GLYPHS, {}),
        ("encoder", DRAWINGS, GLYPHS, {"encoder": "resnet12"}),
        ("encoder.options.channels", DRAWINGS, GLYPHS, {"encoder": {"name": "conv4", "options": {"channels": 8}}}),
        ("encoder.options.source", TEXTS, INTENTS, {"encoder": {"name": "mapped", "options": {"source": {}}}}),
        (
            "input",
            DRAWINGS,
            GLYPHS,
            {"input": {"modality": "image", "height": 32, "width": 32, "channels": 1}},
        ),
        ("base_checkpoint", VECTORS, checkpoint("identity", VectorInput()), {"encoder": "mapped"}),
        ("learner", TEXTS, INTENTS, {"learner": "maml"}),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    param: str, data: DatasetManifest, base: Manifest, request_: dict[str, Any]
) -> None:
    assert refused(param, data, base, **request_)


def test_what_would_not_fit_is_refused_in_advance() -> None:
    many = dataset(examples=1000, pictures=PHOTOS.pictures)
    assert planned(many).input.modality == "image", "60,000 of 192 x 192 x 3 fit"
    more = dataset(examples=1400, pictures=PHOTOS.pictures)
    assert "8.7 GiB" in refused("input.height", more)
    assert planned(more, input={"modality": "image", "height": 96, "width": 96, "channels": 3})
    large = {"modality": "image", "height": 256, "width": 256, "channels": 1}
    turned = dataset(examples=600, pictures=DRAWINGS.pictures)
    assert "8.8 GiB" in refused("input.height", turned, input=large)
    assert planned(turned, input=large, augment={"rotations": False})
    assert "16" in refused("workers_per_job", DRAWINGS, workers_per_job=17)


def test_a_part_without_classes_is_refused() -> None:
    assert "training part" in refused("dataset", dataset(splits={"train": ("a",)}, sizes={"train": (9,)}))
