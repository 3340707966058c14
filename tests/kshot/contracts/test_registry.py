"""What can be compared at all, and what is made of the figures."""

from typing import Any

import pytest

from kshot.contracts.checkpoints import EncoderSpec, Estimate, LearnerSpec, Lineage, Manifest, TextInput, VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.registry import ComparedShape, check_comparable, verdict_of


def row(mean: float, interval: float) -> ComparedShape:
    figure = Estimate(mean=0.5, interval=0.1)
    ahead = Estimate(mean=mean, interval=interval)
    return ComparedShape(
        n_way=5, k_shot=1, metric="accuracy", challenger=figure, incumbent=figure, ahead=ahead, episodes=300
    )


def test_one_shape_lost_outweighs_one_won() -> None:
    won, lost, even = row(0.05, 0.02), row(-0.05, 0.02), row(-0.01, 0.02)
    assert [verdict_of(rows) for rows in [(won, lost), (won, even), (even,)]] == ["worse", "better", "no_worse"]


def manifest(learner: str = "ridge", **changes: Any) -> Manifest:
    """As the shipped `vectors`: any width, classes and any number of numbers."""
    values: dict[str, Any] = {
        "name": "vectors", "description": "", "tasks": ("classification", "regression"), "input": VectorInput(),
        "encoder": EncoderSpec(name="identity"), "learner": LearnerSpec(name=learner),
        "lineage": Lineage.model_validate({"command": "", "code_version": "1", "created_at": "2026-01-01T00:00:00Z"}),
    }  # fmt: skip
    return Manifest(**(values | changes))


VALUES = DatasetManifest(
    id="ds-1", name="mine", format="recorded_tasks", modality="vector", task="regression", width=8
)  # fmt: skip
CLASSES = VALUES.model_copy(update={"task": "classification"})


@pytest.mark.parametrize(
    ("challenger", "lost"),
    [
        (manifest(tasks=("regression",)), "does classification"),
        (manifest(tasks=("classification",)), "does regression"),
        (manifest("protonet"), "does regression"),
        (manifest(n_targets=1), "any number of targets"),
        (manifest(input=VectorInput(width=8)), "any width"),
    ],
)
def test_a_challenger_that_would_refuse_callers_of_production_is_not_compared(challenger: Manifest, lost: str) -> None:
    dataset = VALUES if "regression" in challenger.tasks and challenger.learner.name == "ridge" else CLASSES
    with pytest.raises(Invalid, match=lost) as caught:
        check_comparable(challenger, manifest(), dataset)
    assert caught.value.param == "checkpoint" and "force: true" in caught.value.message
    check_comparable(challenger, challenger, dataset)
    check_comparable(manifest(), challenger, dataset)  # one that does more may take over


def test_texts_may_get_longer_and_not_shorter() -> None:
    short, long = (
        manifest(tasks=("classification",), input=TextInput(max_chars=n), encoder=EncoderSpec(name="text"))
        for n in (100, 200)
    )
    dataset = CLASSES.model_copy(update={"modality": "text", "width": None})
    check_comparable(long, short, dataset)
    with pytest.raises(Invalid, match="200 characters"):
        check_comparable(short, long, dataset)
