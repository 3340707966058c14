"""A job that begins at a checkpoint in production makes one that can take its place: it serves what that one serves."""

from typing import Any

import pytest

from kshot.contracts.checkpoints import Manifest, VectorInput
from kshot.contracts.datasets import DatasetManifest, RecordedFrom
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import possible_tasks
from kshot.contracts.recipe import Recipe
from kshot.contracts.registry import check_comparable
from tests.kshot.planning.test_planning import CURVES, DRAWINGS, GLYPHS, VECTORS, checkpoint, planned

RECORDED = DatasetManifest(
    id="ds-1", name="recorded", format="recorded_tasks", modality="vector", task="regression", input=VectorInput(),
    recorded=RecordedFrom(checkpoint="vectors", tenants=("tn-1",)),
)  # fmt: skip
CLASSES = RECORDED.model_copy(update={"task": "classification"})


def vectors(**changes: Any) -> Manifest:
    """As the shipped `vectors`."""
    both: dict[str, Any] = {"tasks": ("classification", "regression")}
    return checkpoint("identity", VectorInput()).model_copy(update=both | changes)


def made(recipe: Recipe, base: Manifest) -> Manifest:
    """What the manifest of the recipe's checkpoint says."""
    names = ("tasks", "input", "encoder", "learner", "n_targets")
    return base.model_copy(update={name: getattr(recipe, name) for name in names})


@pytest.mark.parametrize("data", [RECORDED, CLASSES, VECTORS, VECTORS.model_copy(update={"width": 384})])
def test_what_a_job_makes_of_a_base_may_take_its_place(data: DatasetManifest) -> None:
    recipe = planned(data, vectors())
    assert set(recipe.tasks) == {"classification", "regression"} and recipe.tasks[0] == data.task
    assert recipe.n_targets is None and recipe.input == VectorInput()
    check_comparable(made(recipe, vectors()), vectors(), data)


def test_a_learner_that_does_less_makes_less() -> None:
    recipe = planned(CLASSES, vectors(), learner="protonet")
    assert recipe.tasks == ("classification",)
    with pytest.raises(Invalid, match="does regression"):
        check_comparable(made(recipe, vectors()), vectors(), CLASSES)


def test_a_head_made_for_one_kind_of_task_serves_that_kind_alone() -> None:
    base = checkpoint("mlp", VectorInput(width=1)).model_copy(update={"tasks": ("classification", "regression")})
    recipe = planned(CURVES, base, learner="maml")
    assert (recipe.tasks, recipe.n_targets) == (("regression",), 1)
    assert planned(DRAWINGS, GLYPHS).tasks == ("classification",)


def test_a_base_of_several_targets_goes_on_doing_single_ones() -> None:
    base = vectors(tasks=("multitask",))
    recipe = planned(CLASSES, base)
    assert possible_tasks(made(recipe, base), recipe.learner.name) == ["classification", "regression"]


def test_how_many_numbers_a_recorded_task_predicts_is_open() -> None:
    assert planned(RECORDED).n_targets is None, "ridge takes any number"
    assert planned(RECORDED, vectors(n_targets=2, tasks=("regression",))).n_targets == 2
    assert planned(CURVES).n_targets == 1


def test_a_base_of_any_width_takes_vectors_of_one() -> None:
    """Finding: it was refused, being compared with the width of the data."""
    assert planned(VECTORS, vectors()).input == VectorInput()
    narrowed = planned(VECTORS, vectors(), input={"modality": "vector", "width": 16})
    assert narrowed.input == VectorInput(width=16)
