"""Outputs as callers read them."""

import json
import math

import pytest
import torch

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import AnswerOptions, TargetSpec
from kshot.learners.base import Output
from workers.answers import Asked, write_answers

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 3.0, 3.5]])


def written(output, classes, options, param="inputs", columns=()):
    return write_answers([Asked(output, classes, options, columns)], param)[0]


def answers(classes=("a", "b", "c"), logits=LOGITS, **options):
    return written(Output(logits=logits), classes, AnswerOptions(**options))


def test_classes_are_named_by_the_callers_labels_most_probable_first():
    first, second = answers()
    assert (first["label"], second["label"]) == ("a", "c")
    assert list(first["probabilities"]) == ["a", "b", "c"]
    assert list(second["probabilities"]) == ["c", "b", "a"]
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["probabilities"]["a"] == pytest.approx(math.exp(2) / (math.exp(2) + math.exp(1) + 1), abs=1e-6)
    assert set(first) == {"label", "probabilities"}


def test_integer_labels_stay_integers_and_name_probabilities_as_strings():
    first, _ = answers(classes=(7, -1, 0))
    assert first["label"] == 7
    assert set(first["probabilities"]) == {"7", "-1", "0"}


def test_logits_come_when_asked_for_and_only_what_was_asked_for_comes():
    first, _ = answers(wanted=("logits",))
    assert first == {"logits": {"a": 2.0, "b": 1.0, "c": 0.0}}


def test_top_k_keeps_the_most_probable():
    first, second = answers(top_k=2, wanted=("labels", "probabilities", "logits"))
    assert list(first["probabilities"]) == list(first["logits"]) == ["a", "b"]
    assert list(second["probabilities"]) == ["c", "b"]
    assert len(answers(top_k=10)[0]["probabilities"]) == 3


def test_a_doubtful_answer_is_rejected_and_keeps_its_probabilities():
    first, second = answers(reject_below=0.66)
    assert first["label"] == "a"
    assert second["label"] is None
    assert second["probabilities"]["c"] == pytest.approx(0.6182, abs=1e-3)


def test_regression_gives_numbers_and_lists_for_several_targets():
    one = written(Output(values=torch.tensor([[1.5], [2.5]]), std=torch.tensor([[0.1], [0.2]])), (), AnswerOptions())
    assert one == [{"value": 1.5, "std": pytest.approx(0.1)}, {"value": 2.5, "std": pytest.approx(0.2)}]
    two = written(Output(values=torch.tensor([[1.5, 2.0]])), (), AnswerOptions())
    assert two == [{"value": [1.5, 2.0]}]


def joint(**options):
    kind = TargetSpec(name="kind", kind="classification", classes=("a", "b", "c"))
    columns = (kind, TargetSpec(name="size", kind="regression"))
    output = Output(columns=(Output(logits=LOGITS), Output(values=torch.tensor([[1.5], [2.5]]))))
    return written(output, (), AnswerOptions(**options), columns=columns)


def test_several_targets_are_answered_by_name_each_as_it_would_be_alone():
    first, second = joint()
    assert first == {"targets": {"kind": answers()[0], "size": {"value": 1.5}}}
    assert second["targets"]["kind"] == answers()[1]


def test_what_is_wanted_applies_to_each_target():
    assert joint(wanted=("labels",))[0] == {"targets": {"kind": {"label": "a"}}}
    assert joint(wanted=("values",))[0] == {"targets": {"size": {"value": 1.5}}}
    rejected = joint(reject_below=0.66, top_k=1)[1]["targets"]
    assert rejected["kind"]["label"] is None and len(rejected["kind"]["probabilities"]) == 1
    assert rejected["size"] == {"value": 2.5}


def test_answers_are_plain_json():
    text = json.dumps(answers(wanted=("labels", "probabilities", "logits")), allow_nan=False)
    assert json.loads(text)[0]["label"] == "a"


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(Invalid) as refused:
        written(Output(logits=torch.tensor([[0.0, number]])), ("a", "b"), AnswerOptions(), "query.inputs")
    assert refused.value.param == "query.inputs"
    with pytest.raises(Invalid):
        written(Output(values=torch.tensor([[number]])), (), AnswerOptions())


def test_numbers_have_seven_digits_at_any_scale():
    scales = torch.logspace(-30, 30, 121, dtype=torch.float64)
    numbers = torch.cat([scales * 1.23456789, -scales * 9.87654321, torch.zeros(1, dtype=torch.float64)])
    values = [one["value"] for one in written(Output(values=numbers[:, None]), (), AnswerOptions())]
    assert values == pytest.approx(numbers.tolist(), rel=1e-6, abs=0)
    short = [number for number in values if 1e-15 < abs(number) < 1e22]
    assert len(short) > 100 and short == [float(f"{number:.7g}") for number in short]


def test_items_written_together_are_written_as_alone():
    kinds = [
        Asked(Output(logits=LOGITS), ("a", "b", "c"), AnswerOptions()),
        Asked(Output(logits=LOGITS[:, :2]), (1, 2), AnswerOptions(top_k=1)),
        Asked(Output(values=torch.tensor([[1.5]])), (), AnswerOptions()),
        Asked(Output(logits=LOGITS.flip(0)), ("x", "y", "z"), AnswerOptions(wanted=("labels", "logits"))),
        Asked(Output(logits=LOGITS[:1]), ("a", "b", "c"), AnswerOptions(reject_below=0.9)),
    ]
    assert write_answers(kinds) == [write_answers([one])[0] for one in kinds]
