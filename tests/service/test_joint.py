"""Labels that are objects: columns of numbers, and every way in which such labels can be wrong."""

from typing import Any

import numpy as np
import pytest

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions, SupportSet, TargetSpec
from service.bodies.raw_inputs import RawSupport, Values
from service.joint import count_targets, joint_targets
from service.meaning import extend_support, read_support
from tests.service.test_meaning import LIMITS, manifest, read

NAN = float("nan")


def columns(*labels: dict[str, Any], **options: Any) -> tuple[list[list[float]], tuple[TargetSpec, ...]]:
    targets, specs = joint_targets(labels, 4, **options)
    assert targets.dtype == np.float32
    return [[None if np.isnan(x) else x for x in column] for column in targets.T.tolist()], specs


def test_strings_are_classes_numbers_are_values_and_null_or_absent_is_missing() -> None:
    found, specs = columns({"b": "x", "a": 1.5}, {"b": "y", "a": None}, {"a": 2}, {"b": "x"})
    assert [spec.name for spec in specs] == ["a", "b"]
    assert found == [[1.5, None, 2.0, None], [0.0, 1.0, None, 0.0]]
    assert specs[0].kind == "regression" and specs[1].kind == "classification" and specs[1].classes == ("x", "y")


def test_integers_are_classes_unless_something_says_otherwise() -> None:
    rows = ({"t": 7}, {"t": -1}, {"t": 7})
    assert columns(*rows)[1][0].classes == (7, -1)
    assert columns(*rows, kinds={"t": "regression"})[0] == [[7.0, -1.0, 7.0]]
    assert columns(*rows, integers="regression")[1][0].kind == "regression"
    assert columns(*rows, integers="regression", kinds={"t": "classification"})[1][0].classes == (7, -1)


def test_examples_times_targets_are_bounded_with_the_parents_too() -> None:
    limits = LIMITS.model_copy(update={"max_joint_labels": 8})

    def support(n: int, *names: str) -> RawSupport:
        return RawSupport(Values([[float(i)] for i in range(n)]), [dict.fromkeys(names, i + 0.5) for i in range(n)])

    parent = read_support(support(4, "a", "b"), manifest(), LearnerOptions(), limits).support
    for n, names in ((5, "ab"), (3, "abc")):
        with pytest.raises(Invalid, match="at most 8 are allowed") as caught:
            read_support(support(n, *names), manifest(), LearnerOptions(), limits)
        assert caught.value.param == "support.labels"
    with pytest.raises(Invalid, match="5 examples times 2 targets"):
        extend_support(parent, support(1, "a"), manifest(), limits)


def test_the_order_of_an_objects_keys_means_nothing() -> None:
    assert columns({"a": 1.5, "b": "x"}, {"b": "y"}) == columns({"b": "x", "a": 1.5}, {"b": "y"})


def test_counts() -> None:
    targets, specs = joint_targets([{"a": 1.5, "b": "x"}, {"b": "y"}, {"b": "y"}], 4)
    value, label = count_targets(targets, specs)
    assert (value.n_examples, value.k_shot) == (1, ()) and (label.n_examples, label.k_shot) == (3, (1, 2))


@pytest.mark.parametrize(
    ("labels", "param", "message"),
    [
        ([{"t": "a"}, "b"], "[1]", "all objects"),
        (["b", {"t": "a"}], "[1]", "all objects"),
        ([{"t": "a"}, None], "[1]", "all objects"),
        ([{"t": "a"}, {}], "[1]", "value for no target; give at least one, or leave the example out"),
        ([{"t": "a"}, {"t": None}], "[1]", "value for no target"),
        ([{"t": "a", "u": None}, {"t": "b"}], "[0].u", "no example has a value for this target; leave it out"),
        ([{"t": "a"}, {"t": "a"}], "[0].t", "at least 2 classes"),
        ([{"t": 1}, {"t": 1}], "[0].t", "if these are numbers, say so in options.targets"),
        ([{"t": "a"}, {"t": "b"}, {"t": 1}], "[2].t", "all strings or all numbers"),
        ([{"t": 1.5}, {"t": 2}, {"t": "b"}], "[2].t", "all strings or all numbers"),
        ([{"t": 1.5}, {"t": True}], "[1].t", "a string, a number or null"),
        ([{"k": 1}, {"t": "a", "k": 2}, {"t": "b"}, {"t": 1}], "[3].t", "this one differs"),
        ([{"t": 1.5}, {"t": [1.5]}], "[1].t", "one plain value"),
        ([{"t": 1.5}, {"t": {"u": 1}}], "[1].t", "one plain value"),
        ([{"t": 1.5}, {"t": 1e39}], "[1].t", "finite"),
        ([{"t": 1.5}, {"t": 10**400}], "[1].t", "finite"),
        ([{"t": 1}, {"t": 2**63}], "[1].t", "64 bits"),
        ([{"t": "a"}, {"t": ""}], "[1].t", "1 to 200 characters"),
        ([{"t": c} for c in "abcde"], "[0].t", "5 classes; at most 4"),
        ([{"": "a"}, {"": "b"}], "[0]", "name of a target has 1 to 64"),
        ([{"x" * 65: "a"}], "[0]", "name of a target has 1 to 64"),
        ([{f"t{i}": 1.5 for i in range(65)}], "", "65 targets; at most 64"),
    ],
)
def test_labels_that_are_refused(labels: list[Any], param: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        read(labels)
    assert caught.value.param == "support.labels" + param


@pytest.mark.parametrize(
    ("labels", "options", "param"),
    [
        ([{"t": "a"}, {"t": "b"}], {"learner": "ridge"}, "options.learner"),
        ([{"t": "a"}, {"t": "b"}], {"task": "classification"}, "options.task"),
        ([{"t": "a"}, {"t": "b"}], {"targets": {"u": "regression"}}, "options.targets.u"),
        ([{"t": "a"}, {"t": "b"}], {"targets": {"t": "regression"}}, "support.labels[0].t"),
        ([{"t": 1.5}, {"t": 2.5}], {"targets": {"t": "classification"}}, "support.labels[0].t"),
        ([{"t": "a"}, {"t": "b"}], {"inner_steps": 3}, "options.inner_steps"),
        (["a", "b"], {"task": "multitask"}, "options.task"),
        (["a", "b"], {"targets": {"t": "regression"}}, "options.targets"),
    ],
)
def test_options_that_do_not_suit(labels: list[Any], options: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(labels, **options)
    assert caught.value.param == param


@pytest.mark.parametrize("learner", ["ridge", "maml", "protonet"])
def test_any_checkpoint_runs_the_joint_learner(learner: str) -> None:
    meaning = read([{"t": "a"}, {"t": "b"}], manifest(learner=learner, tasks=("classification",)))
    assert meaning.learner == "multitask" and meaning.support.task == "multitask"
    assert read([{"t": "a"}, {"t": "b"}], learner="multitask", l2=2.0).learner == "multitask"


def test_integers_are_values_where_the_checkpoint_only_predicts_numbers() -> None:
    support = read([{"t": 1}, {"t": 2}], manifest(learner="maml", tasks=("regression",))).support
    assert support.columns[0].kind == "regression"


def joint_parent() -> SupportSet:
    return read([{"a": 1.5, "b": "x"}, {"b": "y"}]).support


def test_added_examples_bring_classes_and_targets() -> None:
    raw = RawSupport(Values([[2.0], [3.0], [4.0]]), [{"b": "z", "c": "p"}, {"a": 2}, {"c": "q"}])
    grown = extend_support(joint_parent(), raw, manifest(), LIMITS)
    assert [spec.name for spec in grown.columns] == ["a", "b", "c"]
    assert grown.columns[1].classes == ("x", "y", "z") and grown.columns[2].classes == ("p", "q")
    expected = [[1.5, 0, NAN], [NAN, 1, NAN], [NAN, 2, 0], [2, NAN, NAN], [NAN, NAN, 1]]
    assert np.array_equal(grown.targets, np.array(expected, np.float32), equal_nan=True) and len(grown.inputs) == 5


@pytest.mark.parametrize(
    ("labels", "named", "param"),
    [
        ([{"b": 1}], False, "support.labels[0].b"),
        ([{"a": "x"}], False, "support.labels[0].a"),
        (["x"], False, "support.labels[0]"),
        (["x"], True, "support"),
        ([{"b": "v"}, {"b": "w"}, {"b": "u"}], False, "support.labels[0].b"),
    ],
)
def test_added_labels_must_suit_the_parents(labels: list[Any], named: bool, param: str) -> None:
    raw = RawSupport(Values([[float(i)] for i in range(len(labels))]), labels, named)
    with pytest.raises(Invalid) as caught:
        extend_support(joint_parent(), raw, manifest(), LIMITS)
    assert caught.value.param == param


def test_names_of_parts_stay_plain_labels() -> None:
    raw = RawSupport(Values([[1.0], [2.0]]), ['{"t": 1}', '{"t": 2}'], named=True)
    assert read_support(raw, manifest(), LearnerOptions(), LIMITS).support.task == "classification"
