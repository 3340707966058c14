"""What a body's faults are called: places as the caller wrote them, in words without our classes."""

from typing import Any

import pytest
from pydantic import BaseModel

from kshot.contracts.api import AdaptRequest
from kshot.contracts.dataset_bodies import NewBuiltInRequest
from kshot.contracts.errors import WorseThanIncumbent
from kshot.contracts.job_bodies import NewJobRequest
from service.bodies.requests import validate
from service.errors import InvalidFields, problem_response


def faults(model: type[BaseModel], body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidFields) as refused:
        validate(model, body)
    places = [item.param for item in refused.value.items]
    assert len(places) == len(set(places))
    return {item.param or "": item.message for item in refused.value.items}


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"encoder": 3}, "encoder", "Input should be a valid string, or an object"),
        ({"encoder": "A b"}, "encoder", "letters"),
        ({"encoder": {}}, "encoder.name", "required"),
        ({"encoder": {"name": 3}}, "encoder.name", "string"),
        ({"episode": {"n_way": 1}}, "episode.n_way", "or a valid list"),
        ({"episode": {"n_way": [1, 5]}}, "episode.n_way[0]", "greater"),
        ({"options": {"inner_lr": None}}, "options.inner_lr", "or a valid string"),
        ({"input": {"modality": "text", "max_chars": "x"}}, "input.max_chars", "integer"),
        ({"name": "../up"}, "name", "hyphens"),
        ({"evaluate": [{"k_shot": 0}]}, "evaluate[0].k_shot", "greater"),
        ({"unknown": 1}, "unknown", "unknown field"),
        ({"optimiser": {"nme": 1}}, "optimiser.nme", "unknown field"),
    ],
)
def test_a_place_is_named_once_and_as_it_was_sent(changes: dict[str, Any], place: str, message: str) -> None:
    found = faults(NewJobRequest, {"dataset": "d", "name": "n", **changes})
    assert list(found) == [place] and message in found[place]


def test_a_missing_field_and_a_pattern_of_another_kind() -> None:
    assert set(faults(NewJobRequest, {})) == {"dataset", "name"}
    sent = {"name": "n", "source": "recorded-tasks", "checkpoint": "ckpt_A"}
    assert "lower-case" in faults(NewBuiltInRequest, sent)["checkpoint"]


def test_metadata() -> None:
    body = {"checkpoint": "c", "support": {"inputs": [1], "labels": ["a"]}}
    assert "finite number" in faults(AdaptRequest, {**body, "metadata": {"a": [1]}})["metadata.a"]
    assert faults(AdaptRequest, {**body, "metadata": {"k" * 65: 1}}).popitem()[1] == "a name has at most 64 characters"


def test_a_refused_promotion_says_where_its_figures_are() -> None:
    error = WorseThanIncumbent("behind")
    assert "location" not in problem_response(error, None).headers
    error.promotion = "pro_1"
    assert problem_response(error, None).headers["location"] == "/v1/promotions/pro_1"
