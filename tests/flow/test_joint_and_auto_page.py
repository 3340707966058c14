"""The examples of docs/joint-and-auto.md, word for word, against the service that `make serve` runs."""

import json
from pathlib import Path

import pytest

from tests.flow.pages import blocks_of, run_block

JOINT, AUTO, BOTH = blocks_of("docs/joint-and-auto.md")


@pytest.mark.flow
def test_the_joint_example_answers_both_targets(page_url: str, folder: Path):
    model = json.loads(run_block(*JOINT, page_url, folder))
    assert (model["status"], model["task"], model["learner"]) == ("succeeded", "multitask", "multitask")
    assert [(target["name"], target["n_examples"]) for target in model["targets"]] == [("team", 5), ("urgency", 4)]
    assert model["targets"][0]["k_shot"] == {"cards": 2, "payments": 3}
    (prediction,) = model["predictions"]
    assert prediction["targets"]["team"]["label"] == "cards" and "value" in prediction["targets"]["urgency"]


@pytest.mark.flow
def test_the_photo_example_chooses_among_the_checkpoints_for_pictures(page_url: str, folder: Path):
    model = json.loads(run_block(*AUTO, page_url, folder))
    assert model["status"] == "succeeded", model
    considered = {item["checkpoint"]["name"] for item in model["selection"]["considered"]}
    assert {"glyphs", "photos"} <= considered and model["checkpoint"]["name"] in considered
    assert model["predictions"][0]["label"] in {"cup", "chair"}


@pytest.mark.flow
def test_the_example_of_both_prints_a_checkpoint_and_a_side(page_url: str, folder: Path):
    assert run_block(*BOTH, page_url, folder).split() == ["vectors", "high"]
