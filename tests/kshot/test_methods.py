"""The table the front end decides by says what the learners say of themselves."""

from kshot.contracts.methods import METHODS
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.registry import LEARNERS

METHOD_OPTIONS = {"inner_steps", "inner_lr", "l2"}


def test_the_table_equals_the_learners() -> None:
    assert set(METHODS) == set(LEARNERS)
    for name, learner in LEARNERS.items():
        assert METHODS[name].tasks == learner.tasks, name
        assert METHODS[name].options == learner.options & METHOD_OPTIONS, name


def test_every_method_option_is_a_learner_option() -> None:
    assert set(LearnerOptions.model_fields) >= METHOD_OPTIONS
