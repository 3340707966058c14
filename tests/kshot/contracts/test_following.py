"""When a model may follow its alias: forms that fit, learners that run, and what counts as worse."""

from dataclasses import dataclass

import pytest

from kshot.contracts.checkpoints import ImageInput, InputSpec, LearnerSpec, Manifest, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.following import fits, is_worse, is_worse_over_all, learner_on
from kshot.contracts.tasks import LearnerOptions, Quality
from tests.kshot.storage.conftest import a_manifest

IMAGE = ImageInput(height=28, width=28, channels=1)


@dataclass(frozen=True)
class Case:
    stored: InputSpec
    wanted: InputSpec
    shape: tuple[int, ...]
    fit: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(IMAGE, IMAGE, (28, 28, 1), True),
        Case(IMAGE, IMAGE.model_copy(update={"mean": (0.5,), "std": (0.2,)}), (28, 28, 1), True),
        Case(IMAGE, IMAGE.model_copy(update={"invert": True}), (28, 28, 1), False),
        Case(IMAGE, IMAGE.model_copy(update={"width": 32}), (28, 28, 1), False),
        Case(VectorInput(), VectorInput(width=4), (4,), True),
        Case(VectorInput(), VectorInput(width=4), (5,), False),
        Case(VectorInput(width=4), VectorInput(), (4,), True),
        Case(TextInput(max_chars=100), TextInput(max_chars=200), (), True),
        Case(TextInput(max_chars=200), TextInput(max_chars=100), (), False),
        Case(TextInput(), VectorInput(), (), False),
    ],
)
def test_canonical_inputs_fit_where_the_other_checkpoint_would_have_made_the_same(case: Case):
    assert fits(case.stored, case.wanted, case.shape) == case.fit


def quality(accuracy: float, n: int = 10) -> Quality:
    return Quality(method="leave_one_out", accuracy=accuracy, n=n, reliable=True)


def error(mse: float, n: int = 10) -> Quality:
    return Quality(method="leave_one_out", mse=mse, n=n, reliable=True)


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [
        (quality(1.0), quality(1.0), False),
        (quality(1.0, 4), quality(0.75, 4), True),  # from a perfect score one example lost is too many
        (quality(1.0, 1000), quality(0.999, 1000), True),
        (quality(0.8, 20), quality(0.7, 20), False),  # chance alone does that
        (quality(0.8, 20), quality(0.6, 20), True),
        (quality(0.5), quality(0.9), False),
        (quality(1.0, 10), quality(0.1, 12), False),  # not the same examples
        (None, quality(0.1), False),
        (quality(1.0), None, False),
        (error(1.0), error(1.5), False),
        (error(1.0), error(4.0), True),
        (error(1.0), error(0.1), False),
        (quality(1.0), error(9.0), False),
    ],
)
def test_worse_means_by_more_than_chance_would(old: Quality | None, new: Quality | None, worse: bool):
    assert is_worse(old, new) == worse


def test_of_several_targets_more_must_be_worse_than_better():
    good, bad = quality(1.0), quality(0.2)
    assert is_worse_over_all([good, good, None], [bad, good, bad])
    assert not is_worse_over_all([good, bad, good], [bad, good, good])


def manifest(learner: str = "protonet", **changes: object) -> Manifest:
    return a_manifest().model_copy(update={"learner": LearnerSpec(name=learner), **changes})


def test_the_checkpoints_own_learner_runs_where_the_caller_named_none():
    new = manifest("ridge", tasks=("classification", "regression"))
    assert learner_on(new, VectorInput(), LearnerOptions(), "classification", (4,), None) == "ridge"
    named = LearnerOptions(learner="protonet")
    assert learner_on(new, VectorInput(), named, "classification", (4,), None) == "protonet"
    assert learner_on(new, VectorInput(), LearnerOptions(), "multitask", (4,), None) == "multitask"


@pytest.mark.parametrize(
    ("new", "options", "task", "reason"),
    [
        (manifest(input=VectorInput(width=9)), LearnerOptions(), "classification", "form of inputs"),
        (manifest(), LearnerOptions(learner="maml"), "classification", "this checkpoint runs"),
        (manifest(), LearnerOptions(l2=1.0), "classification", "does not use l2"),
        (manifest(), LearnerOptions(), "regression", "does no regression"),
        (manifest("maml", tasks=("regression",), n_targets=2), LearnerOptions(), "regression", "2 targets"),
    ],
)
def test_what_cannot_move_says_why(new: Manifest, options: LearnerOptions, task: str, reason: str):
    with pytest.raises(Invalid, match=reason):
        learner_on(new, VectorInput(), options, task, (4,), None)
