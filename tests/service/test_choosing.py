"""`auto`: which checkpoints in production are asked, and in what form they get the examples."""

import base64
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kshot.contracts.checkpoints import ImageInput, InputSpec, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.storage.checkpoints import StoredCheckpoint
from service.bodies.raw_inputs import Files, RawInputs, RawSupport, Tensor, Values
from service.choosing import OpenMeaning, read_open
from service.preparing import Order, prepare
from tests.flow.http_stack import drawing_file
from tests.service.test_meaning import BOTH, LIMITS, manifest

SMALL, LARGE = (ImageInput(height=n, width=n, channels=1, mean=(n / 100,)) for n in (14, 28))
SPECS: dict[str, tuple[InputSpec, str, Any]] = {
    "any": (VectorInput(), "ridge", BOTH),
    "four": (VectorInput(width=4), "protonet", ("classification",)),
    "steps": (VectorInput(width=4), "maml", ("regression",)),
    "small": (SMALL, "protonet", ("classification",)),
    "large": (LARGE, "ridge", ("classification",)),
    "twin": (LARGE.model_copy(update={"mean": (0.9,)}), "protonet", ("classification",)),
    "words": (TextInput(max_chars=20), "ridge", ("classification",)),
    "essays": (TextInput(max_chars=200), "ridge", ("classification",)),
}
FOUR = [[1.0, 2, 3, 4], [4.0, 3, 2, 1]]
PNGS = [drawing_file(i) for i in range(2)]


def promoted() -> list[StoredCheckpoint]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for name, (spec, learner, tasks) in SPECS.items():
        own = manifest(spec, learner, tasks).model_copy(update={"name": name})
        found.append(StoredCheckpoint(f"ckpt_{name}", own, "x", 1, at))
    return found


def stored(*specs: InputSpec) -> list[StoredCheckpoint]:
    """Checkpoints of ridge, named c00, c01 and so on."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = [manifest(spec).model_copy(update={"name": f"c{i:02}"}) for i, spec in enumerate(specs)]
    return [StoredCheckpoint(f"ckpt_{one.name}", one, "x", 1, at) for one in found]


def read(inputs: RawInputs, labels: list[Any], query: RawInputs | None = None, **options: Any) -> OpenMeaning:
    return read_open(RawSupport(inputs, labels), query, promoted(), LearnerOptions(**options), LIMITS)


def names(inputs: RawInputs, labels: list[Any], **options: Any) -> list[str]:
    return [one.checkpoint.name for one in read(inputs, labels, **options).choice.candidates]


def test_inputs_labels_and_options_decide_who_is_asked() -> None:
    assert names(Values(FOUR), ["a", "b"]) == ["any", "four"]
    assert names(Values([row[:2] for row in FOUR]), ["a", "b"]) == ["any"]
    assert names(Values(FOUR), [1.5, 2.5]) == ["any", "steps"]
    assert names(Values(FOUR), [1, 2]) == ["any", "four"]
    assert names(Values(FOUR), [1, 2], task="regression") == ["any", "steps"]
    assert names(Values(FOUR), [1.5, 2.5], inner_steps=2) == ["steps"]
    assert names(Values(FOUR), ["a", "b"], learner="ridge") == ["any", "four"]
    assert names(Values(FOUR), [{"t": "a"}, {"t": "b"}]) == ["any", "four", "steps"]
    assert names(Tensor(np.ones((2, 4), np.float32)), ["a", "b"]) == ["any", "four"]


def test_texts_and_pictures_are_told_apart() -> None:
    pictures = ["small", "large", "twin"]
    assert names(Values(["a text", "another"]), ["a", "b"]) == ["words", "essays"]
    assert names(Values(["a text", "a text of more than twenty"]), ["a", "b"]) == ["essays"]
    assert names(Files([b"a text", b"a text of more than twenty"]), ["a", "b"]) == ["essays"]
    assert names(Values(["data: a sum", "A1b2" * 30]), ["a", "b"]) == ["essays"]
    encoded = [base64.b64encode(png).decode() for png in PNGS]
    assert names(Values(encoded), ["a", "b"]) == pictures
    assert names(Values([f"data:image/png;base64,{text}" for text in encoded]), ["a", "b"]) == pictures
    assert names(Files(PNGS), ["a", "b"]) == pictures
    assert names(Files([b"a text", b"another"]), ["a", "b"]) == ["words", "essays"]
    assert names(Tensor(np.zeros((2, 28, 28, 1), np.uint8)), ["a", "b"]) == ["large", "twin"]


def test_each_form_is_decoded_once_and_candidates_know_theirs() -> None:
    meaning = read(Files(PNGS), ["a", "b"], Files(PNGS[:1]))
    assert [one.form for one in meaning.choice.candidates] == [0, 1, 1]
    (other,) = meaning.choice.others
    assert np.shape(meaning.support.inputs) == (2, 14, 14, 1) and np.shape(meaning.query) == (1, 14, 14, 1)
    assert np.shape(other.inputs) == (2, 28, 28, 1) and np.shape(other.query) == (1, 28, 28, 1)
    assert read(Values(FOUR), ["a", "b"]).choice.others == ()


def test_candidates_read_the_query_too_and_texts_have_one_form() -> None:
    texts = Values(["a text", "another"])
    both = read(texts, ["a", "b"], texts).choice
    assert [one.form for one in both.candidates] == [0, 0] and both.others == ()
    for query in (Values(["short", "one of more than twenty"]), Files([b"one of more than twenty"])):
        assert [one.checkpoint.name for one in read(texts, ["a", "b"], query).choice.candidates] == ["essays"]
    with pytest.raises(Invalid, match="201 characters") as caught:
        read(texts, ["a", "b"], Values(["x" * 201]))
    assert caught.value.param == "query.inputs[0]"


def test_all_that_changes_the_pixels_makes_a_form() -> None:
    for change in ({"fit": "stretch"}, {"invert": True}, {"interpolation": "bicubic"}, {"channels": 3}, {"width": 14}):
        specs = (LARGE, LARGE.model_copy(update=change), LARGE.model_copy(update={"mean": (0.9,), "std": (2.0,)}))
        choice = read_open(RawSupport(Files(PNGS), ["a", "b"]), None, stored(*specs), LearnerOptions(), LIMITS).choice
        assert [one.form for one in choice.candidates] == [0, 1, 0], change


def test_at_most_sixteen_candidates() -> None:
    many = stored(*[VectorInput()] * 20)
    choice = read_open(RawSupport(Values(FOUR), ["a", "b"]), None, many, LearnerOptions(), LIMITS).choice
    assert [one.checkpoint.name for one in choice.candidates] == [f"c{i:02}" for i in range(16)]


def test_pictures_that_one_form_cannot_tell_apart_make_two_models() -> None:
    grey, colour = LARGE, LARGE.model_copy(update={"channels": 3})
    dark_red, blue = (solid((76, 0, 0)), solid((0, 0, 200)))
    fingerprints = set()
    for files in ([dark_red, blue], [blue, dark_red]):
        raw = RawSupport(Files(files), ["a", "b"])
        meaning = read_open(raw, None, stored(grey, colour), LearnerOptions(), LIMITS)
        inputs = np.asarray(meaning.support.inputs)
        assert np.array_equal(inputs[0], inputs[1])
        fingerprints.add(prepare(order(meaning)).fingerprint)
    assert len(fingerprints) == 2


def solid(colour: tuple[int, int, int]) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return file.getvalue()


def order(meaning: OpenMeaning) -> Order:
    return Order(
        checkpoint=None, reference="auto", alias=None, learner=None, options=LearnerOptions(),
        support=meaning.support, query=meaning.query, ttl_s=60, metadata={}, choice=meaning.choice,
    )  # fmt: skip


def test_the_learner_is_the_candidates_own_or_the_one_asked_for() -> None:
    def learners(labels: list[Any], **options: Any) -> list[str]:
        return [one.learner for one in read(Values(FOUR), labels, **options).choice.candidates]

    assert learners(["a", "b"]) == ["ridge", "protonet"]
    assert learners(["a", "b"], learner="ridge") == ["ridge", "ridge"]
    assert learners([{"t": "a"}, {"t": "b"}]) == ["multitask"] * 3


def test_where_nobody_fits_the_answer_says_who_takes_what() -> None:
    for inputs, labels, options in (
        (Values(["a text", "another"]), [1.5, 2.5], {}),
        (Values(["x y " * 51] * 2), ["a", "b"], {}),
        (Values(FOUR), ["a", "b"], {"learner": "maml"}),
        (Tensor(np.zeros((2, 9, 9, 1), np.uint8)), ["a", "b"], {}),
    ):
        with pytest.raises(
            Invalid, match="words takes a non-empty string of at most 20 characters for class"
        ) as caught:
            read(inputs, labels, **options)
        assert caught.value.param == "checkpoint"
    with pytest.raises(Invalid, match="there is none"):
        read_open(RawSupport(Values(FOUR), ["a", "b"]), None, [], LearnerOptions(), LIMITS)


@pytest.mark.parametrize(
    ("labels", "options", "param"),
    [
        (["a", "b"], {"learner": "nonsense"}, "options.learner"),
        ([{"t": "a"}, {"t": "b"}], {"learner": "protonet"}, "options.learner"),
        ([{"t": "a"}, {"t": "b"}], {"inner_steps": 2}, "options.inner_steps"),
    ],
)
def test_an_option_that_all_refuse_is_named(labels: list[Any], options: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(Values(FOUR), labels, **options)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("inputs", "labels", "query", "param"),
    [
        (Values([{"a": 1}, {"a": 2}]), ["a", "b"], None, "support.inputs[0]"),
        (Values([FOUR[0], "x"]), ["a", "b"], None, "support.inputs[1]"),
        (Values([FOUR[0], FOUR[1][:2]]), ["a", "b"], None, "support.inputs[1]"),
        (Files([PNGS[0], PNGS[1][:60]]), ["a", "b"], None, "support.inputs[1]"),
        (Values(FOUR), ["a", "b"], Values([[1.0]]), "query.inputs[0]"),
        (Values([]), [], None, "support.inputs"),
        (Values(FOUR), ["a"], None, "support.labels"),
        (Values(FOUR), ["a", "a"], None, "support.labels"),
    ],
)
def test_a_fault_of_the_examples_is_named_where_it_is(
    inputs: RawInputs, labels: list[Any], query: RawInputs | None, param: str
) -> None:
    with pytest.raises(Invalid) as caught:
        read(inputs, labels, query)
    assert caught.value.param == param


def test_all_forms_together_keep_the_limit() -> None:
    tight = LIMITS.model_copy(update={"max_decoded_bytes": 2 * 28 * 28 + 2 * 14 * 14 - 1})
    with pytest.raises(Invalid, match=r"once decoded .* name a checkpoint") as caught:
        read_open(RawSupport(Files(PNGS), ["a", "b"]), None, promoted(), LearnerOptions(), tight)
    assert caught.value.param == "support.inputs"
    enough = LIMITS.model_copy(update={"max_decoded_bytes": 2 * 28 * 28 + 2 * 14 * 14})
    raw = RawSupport(Files(PNGS), ["a", "b"])
    with pytest.raises(Invalid, match=r"once decoded .* name a checkpoint") as caught:
        read_open(raw, Files(PNGS * 2), promoted(), LearnerOptions(), enough)
    assert caught.value.param == "query.inputs"


def test_what_was_sent_is_known_again_whoever_is_promoted() -> None:
    raw = RawSupport(Files(PNGS), ["a", "b"])
    fewer = [one for one in promoted() if one.manifest.name != "small"]
    digests = {read_open(raw, None, some, LearnerOptions(), LIMITS).choice.sent for some in (promoted(), fewer)}
    assert len(digests) == 1
    assert read(Files(PNGS[::-1]), ["a", "b"]).choice.sent not in digests
