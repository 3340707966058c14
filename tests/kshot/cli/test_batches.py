"""Inputs in several requests, figures with their intervals, and options wherever they stand."""

from typing import Any

import numpy as np
import pytest

from kshot.cli.batches import answers_to, batches
from kshot.cli.group import hoisted
from kshot.cli.scoring import in_words, score
from kshot.cli.sources.examples import Examples
from kshot.contracts.api import Limits
from kshot.contracts.errors import Invalid, TooLarge, Unavailable


def limits(**changes: int) -> Limits:
    everything = {name: 10**9 for name in Limits.model_fields if name not in ("object", "formats")}
    return Limits(**{**everything, "formats": [], **changes})  # type: ignore[arg-type]


def texts(*inputs: str) -> Examples:
    return Examples("text", list(inputs), [f"line {i}" for i in range(len(inputs))])


def test_batches_keep_the_order_and_both_bounds():
    vectors = Examples("vector", np.arange(40, dtype=np.float32).reshape(10, 4), [str(i) for i in range(10)])
    assert [len(part) for part in batches(vectors, 4, limits())] == [4, 4, 2]
    assert [len(part) for part in batches(vectors, 10, limits(max_body_bytes=64 * 1024 + 3 * 16))] == [3, 3, 3, 1]
    joined = np.concatenate([np.asarray(part.inputs) for part in batches(vectors, 3, limits())])
    assert np.array_equal(joined, np.asarray(vectors.inputs))
    large = texts("x" * 500, "y")
    assert [len(part) for part in batches(large, 9, limits(max_body_bytes=64 * 1024 + 100))] == [1, 1]


def test_what_is_too_much_together_is_halved_until_it_goes():
    asked: list[int] = []

    def ask(batch: Examples) -> list[Any]:
        asked.append(len(batch))
        if len(batch) > 2:
            raise (TooLarge if len(batch) > 4 else Invalid)("too many pixels together", param="inputs")
        return [{"label": text} for text in batch.inputs]

    answers = answers_to(texts(*"abcdefgh"), ask, limits())
    assert [answer["label"] for answer in answers] == list("abcdefgh")
    assert asked == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Invalid("is empty", param="inputs[1]"), "line 1: is empty"),
        (Invalid("wrong width", param="inputs[9]"), "wrong width"),
        (Unavailable("no worker is alive"), "no worker is alive"),
    ],
)
def test_the_input_at_fault_is_named_and_other_errors_stay(error: Any, told: str):
    def ask(batch: Examples) -> list[Any]:
        raise error

    with pytest.raises(type(error)) as caught:
        answers_to(texts("a", "", "c"), ask, limits())
    assert caught.value.message == told


def test_figures_count_what_is_known_and_have_an_interval():
    answers = [{"label": "a"}, {"label": "b"}, {"label": None}, {"label": 3}]
    figures = score(answers, ["a", "a", "b", "3"])
    assert figures is not None and (figures["accuracy"], figures["n"]) == (0.5, 4)
    assert in_words(figures) == "50.0% right of 4 (95% interval 15.0% to 85.0%)"
    assert score(answers, [None, "b", None, None]) == {
        "accuracy": 1.0,
        "interval": [pytest.approx(0.2065, abs=1e-4), 1.0],
        "n": 1,
    }
    assert score(answers, [None] * 4) is None
    values = score([{"value": 1.0}, {"value": 3.0}], [1.5, 2.5])
    assert values is not None and (values["mse"], values["r2"], values["n"]) == (0.25, 0.0, 2)
    assert score([{"value": 1.0}], [2.0]) == {"mse": 1.0, "interval": None, "r2": None, "n": 1}
    assert in_words({"mse": 1.0, "interval": None, "r2": None, "n": 1}) == "mean squared error 1 over 1"


def test_global_options_may_stand_anywhere_but_after_two_dashes():
    assert hoisted(["adapt", "x", "--url", "u", "--key=k"]) == ["--url", "u", "--key=k", "adapt", "x"]
    assert hoisted(["predict", "m", "--", "--url", "u"]) == ["predict", "m", "--", "--url", "u"]
    assert hoisted(["status", "--url"]) == ["status", "--url"]
