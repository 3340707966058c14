"""Labels, limits and learners: what a support set means to its checkpoint."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
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
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions, SupportSet
from service.bodies.raw_inputs import RawSupport, Tensor, Values
from service.labels import k_shot
from service.meaning import extend_support, read_query, read_support
from service.settings import Settings

LIMITS = Settings(database_url="postgresql://x", redis_url="redis://x", max_support=10, max_query=5, max_ways=4)
BOTH = ("classification", "regression")
VECTORS = VectorInput()


def manifest(
    input: InputSpec = VECTORS, learner: str = "ridge", tasks: Any = BOTH, n_targets: int | None = None
) -> Manifest:
    return Manifest(
        name="x",
        description="",
        tasks=tasks,
        input=input,
        encoder=EncoderSpec(name="identity"),
        learner=LearnerSpec(name=learner),
        n_targets=n_targets,
        lineage=Lineage(command="", code_version="", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )


def read(labels: list[Any], m: Manifest | None = None, *, named: bool = False, **options: Any) -> Any:
    raw = RawSupport(Values([[float(i)] for i in range(len(labels))]), labels, named)
    return read_support(raw, m or manifest(), LearnerOptions(**options), LIMITS)


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [(["b", "a", "b"], ("b", "a"), [0, 1, 0]), ([7, -1, 7], (7, -1), [0, 1, 0])],
)
def test_strings_and_integers_are_classes(labels: list[Any], classes: Any, targets: list[int]) -> None:
    meaning = read(labels)
    assert meaning.support.task == "classification" and meaning.support.classes == classes
    assert meaning.support.targets.tolist() == targets and k_shot(meaning.support.targets, classes) == [2, 1]


@pytest.mark.parametrize("labels", [[1.5, 2], [[1.0], [2]], [1, 2.0]])
def test_floats_and_lists_are_numbers(labels: list[Any]) -> None:
    support = read(labels).support
    assert support.task == "regression" and support.classes == ()
    assert support.targets.shape == (2, 1) and support.targets.dtype == np.float32
    assert k_shot(support.targets, ()) == []


def test_a_checkpoint_of_one_kind_decides() -> None:
    assert read([1, 2], manifest(learner="maml", tasks=("regression",))).support.task == "regression"
    with pytest.raises(Invalid, match="x only classifies: labels must be strings or integers"):
        read([1.5, 2.5], manifest(tasks=("classification",)))
    with pytest.raises(Invalid, match="x only predicts numbers"):
        read(["a", "b"], manifest(tasks=("regression",)))
    with pytest.raises(Invalid, match="protonet only classifies"):
        read([1.5, 2.5], learner="protonet")


def test_the_task_option_decides_where_both_are_possible() -> None:
    assert read([1, 2], task="regression").support.task == "regression"
    with pytest.raises(Invalid) as caught:
        read([1, 2], manifest(tasks=("classification",)), task="regression")
    assert caught.value.param == "options.task"


def test_names_of_parts_are_classes_or_numbers_as_the_task_says() -> None:
    assert read(["1", "2"], named=True).support.classes == ("1", "2")
    assert read(["1", "2.5"], named=True, task="regression").support.targets.tolist() == [[1.0], [2.5]]
    for wrong in ("x", "nan", "inf"):
        with pytest.raises(Invalid):
            read(["1", wrong], named=True, task="regression")


@pytest.mark.parametrize(
    ("labels", "param"),
    [
        (["a", "a"], "support.labels"),
        (["a", 1], "support.labels"),
        (["a", True], "support.labels[1]"),
        (["a", None], "support.labels[1]"),
        (["a", ""], "support.labels[1]"),
        (["a", "x" * 201], "support.labels[1]"),
        ([1, 2**63], "support.labels[1]"),
        (["a", {"t": 1}], "support.labels[1]"),
        (["a", "b", "c", "d", "e"], "support.labels"),
        ([1.5, "a"], "support.labels[1]"),
        ([1.5, True], "support.labels[1]"),
        ([1.5, float("inf")], "support.labels[1]"),
        ([1.5, 1e39], "support.labels[1]"),
        ([1.5, 10**400], "support.labels"),
        ([[1.5], [1.5, 2.5]], "support.labels[1]"),
        ([[1.5], []], "support.labels[1]"),
        ([[1.5], [[1.5]]], "support.labels[1]"),
        ([[0.5] * 65, [0.5] * 65], "support.labels[0]"),
    ],
)
def test_labels_that_are_refused(labels: list[Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(labels)
    assert caught.value.param == param


def test_the_checkpoints_number_of_targets_is_kept() -> None:
    with pytest.raises(Invalid, match="expected 2 numbers"):
        read([[1.5], [2.5]], manifest(n_targets=2))


def test_lengths_and_limits() -> None:
    for inputs, labels, param in (
        ([], [], "support.inputs"),
        ([[1.0]], ["a", "b"], "support.labels"),
        ([[1.0]] * 11, ["a"] * 11, "support.inputs"),
    ):
        with pytest.raises(Invalid) as caught:
            read_support(RawSupport(Values(inputs), labels), manifest(), LearnerOptions(), LIMITS)
        assert caught.value.param == param


def test_decoded_bytes_are_bounded_before_decoding() -> None:
    tight = LIMITS.model_copy(update={"max_decoded_bytes": 1000})
    image = ImageInput(height=100, width=100, channels=1)
    with pytest.raises(Invalid, match="decoded"):
        read_support(RawSupport(Values(["x", "x"]), ["a", "b"]), manifest(image), LearnerOptions(), tight)


@pytest.mark.parametrize(
    ("values", "spec", "message"),
    [
        (["a text", "a text"], ImageInput(height=2, width=2, channels=1), "base64"),
        ([[1.0], [2.0]], TextInput(), "string"),
        ([[1.0], [2.0]], VectorInput(width=3), "3 numbers"),
    ],
)
def test_the_wrong_modality_names_the_expected_one(values: list[Any], spec: InputSpec, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        read_support(RawSupport(Values(values), ["a", "b"]), manifest(spec), LearnerOptions(), LIMITS)
    assert str(caught.value.param).startswith("support.inputs[0]")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"learner": "maml"}, "options.learner"),
        ({"learner": "unknown"}, "options.learner"),
        ({"inner_steps": 3}, "options.inner_steps"),
        ({"inner_lr": 0.1}, "options.inner_lr"),
        ({"learner": "protonet", "l2": 1.0}, "options.l2"),
    ],
)
def test_learners_and_options_a_checkpoint_does_not_have(options: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(["a", "b"], **options)
    assert caught.value.param == param


def test_other_closed_form_learners_run_on_any_encoder() -> None:
    gradient = manifest(learner="maml", tasks=("classification",))
    assert read(["a", "b"], gradient, learner="ridge", l2=2.0).learner == "ridge"
    assert read(["a", "b"], gradient, inner_steps=3).learner == "maml"
    with pytest.raises(Invalid):
        read([1.5, 2.5], manifest(learner="maml", tasks=("regression",)), learner="protonet")


def test_a_query_must_look_like_the_support() -> None:
    assert len(read_query(Values([[1.0]]), VectorInput(), (1,), LIMITS)) == 1
    for values in ([], [[1.0]] * 6):
        with pytest.raises(Invalid) as caught:
            read_query(Values(values), VectorInput(), (1,), LIMITS)
        assert caught.value.param == "query.inputs"
    for values, row in (([[1.0, 2.0]], 0), ([[1.0], [1.0, 2.0]], 1)):
        with pytest.raises(Invalid, match="expected 1 number for each input, as in the support; got 2") as caught:
            read_query(Values(values), VectorInput(), (1,), LIMITS)
        assert caught.value.param == f"query.inputs[{row}]"
    with pytest.raises(Invalid, match="expected 1 number for each input, as in the support; got 3"):
        read_query(Tensor(np.ones((2, 3), np.float32)), VectorInput(), (1,), LIMITS)


def test_examples_extend_a_support_set() -> None:
    parent = SupportSet("classification", np.ones((2, 1), np.float32), np.array([0, 1]), ("a", "b"))
    grown = extend_support(parent, RawSupport(Values([[2.0], [3.0]]), ["b", "c"]), manifest(), LIMITS)
    assert grown.classes == ("a", "b", "c") and grown.targets.tolist() == [0, 1, 1, 2] and len(grown.inputs) == 4
    numbers = SupportSet("regression", np.ones((1, 1), np.float32), np.ones((1, 2), np.float32))
    more = extend_support(numbers, RawSupport(Values([[2.0]]), [[1, 2.5]]), manifest(), LIMITS)
    assert more.targets.tolist() == [[1.0, 1.0], [1.0, 2.5]]


@pytest.mark.parametrize(
    ("inputs", "labels", "param", "message"),
    [
        ([], [], "support.inputs", "no examples"),
        ([[1.0]], [], "support.labels", "1 inputs but 0 labels"),
        ([[1.0]], ["a", "b"], "support.labels", "1 inputs but 2 labels"),
        ([[1.0]] * 9, ["a"] * 9, "support.inputs", "9 examples with the parent's 2; at most 10"),
        ([[1.0]], [5], "support.labels", "all strings or all integers"),
        ([[1.0], [1.0]], ["a", ""], r"support.labels[1]", "1 to 200 characters"),
        ([[1.0]] * 3, ["c", "d", "e"], "support.labels", "5 classes; at most 4"),
        ([[1.0, 2.0]], ["a"], "support.inputs[0]", "1 number for each input, as in the support"),
    ],
)
def test_added_examples_are_checked_as_a_support_set_is(
    inputs: list[Any], labels: list[Any], param: str, message: str
) -> None:
    parent = SupportSet("classification", np.ones((2, 1), np.float32), np.array([0, 1]), ("a", "b"))
    with pytest.raises(Invalid, match=message) as caught:
        extend_support(parent, RawSupport(Values(inputs), labels), manifest(), LIMITS)
    assert caught.value.param == param


def test_added_examples_count_with_the_parents_bytes() -> None:
    tight = LIMITS.model_copy(update={"max_decoded_bytes": 100})
    parent = SupportSet("classification", np.ones((2, 10), np.float32), np.array([0, 1]), ("a", "b"))
    with pytest.raises(Invalid, match="120 bytes once decoded"):
        extend_support(parent, RawSupport(Values([[1.0] * 10]), ["a"]), manifest(), tight)


def test_names_of_added_parts_are_the_parents_classes() -> None:
    parent = SupportSet("classification", ["x", "y"], np.array([0, 1]), (7, -1))
    texts = manifest(TextInput())
    grown = extend_support(parent, RawSupport(Values(["z", "w"]), ["-1", "3"], named=True), texts, LIMITS)
    assert grown.classes == (7, -1, 3) and grown.targets.tolist() == [0, 1, 1, 2]
    for odd in ("up", "1.0", "007"):
        with pytest.raises(Invalid, match="all strings or all integers"):
            extend_support(parent, RawSupport(Values(["z"]), [odd], named=True), texts, LIMITS)
    in_words = SupportSet("classification", ["x", "y"], np.array([0, 1]), ("1", "2"))
    assert extend_support(in_words, RawSupport(Values(["z"]), ["2"], named=True), texts, LIMITS).classes == ("1", "2")
