"""The README's examples, word for word, against the service that `make serve` runs."""

import json
from pathlib import Path

import pytest

from tests.flow.pages import blocks_of
from tests.flow.pages import run_block as run

BLOCKS = blocks_of("README.md")


def answers(block: str) -> str:
    return next(text for _, text in BLOCKS if block in text)


@pytest.mark.flow
def test_the_first_example_answers_arrival(page_url: str, folder: Path):
    model = json.loads(run("bash", answers('"query": {"inputs": ["my new card is late"]}'), page_url, folder))
    assert (model["status"], model["classes"], model["n_way"]) == ("succeeded", ["arrival", "refund"], 2)
    assert model["quality"]["method"] == "leave_one_out"
    assert model["predictions"][0]["label"] == "arrival"


@pytest.mark.flow
def test_the_python_example_answers_refund(page_url: str, folder: Path):
    assert run("python", answers("I was charged twice"), page_url, folder).startswith("refund ")


@pytest.mark.flow
def test_the_drawing_example_tells_rings_from_crosses(page_url: str, folder: Path):
    assert run("python", answers("def drawing("), page_url, folder).strip() == "['ring', 'cross']"


@pytest.mark.flow
def test_the_photo_example_takes_files(page_url: str, folder: Path):
    model = json.loads(run("bash", answers("support[cup]=@cup1.jpg"), page_url, folder))
    assert (model["status"], model["k_shot"]) == ("succeeded", {"cup": 2, "chair": 2})
    assert model["predictions"][0]["label"] in {"cup", "chair"}


@pytest.mark.flow
def test_the_numbers_example_continues_the_line(page_url: str, folder: Path):
    model = json.loads(run("bash", answers('"checkpoint": "vectors"'), page_url, folder))
    assert model["task"] == "regression"
    assert model["predictions"][0]["value"] == pytest.approx(13, abs=0.7)


def test_no_example_is_left_out():
    assert len(BLOCKS) == 5
