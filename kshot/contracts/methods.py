"""What each learner can do, for processes that must not import torch: the front end decides by this table.

A test compares it with the learners themselves.
"""

from dataclasses import dataclass

from kshot.contracts.checkpoints import Manifest, TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions


@dataclass(frozen=True)
class Method:
    """``tasks`` it can do; ``options`` it honours; ``any_encoder``: it needs nothing meta-learned but the encoder."""

    tasks: frozenset[TaskKind]
    options: frozenset[str]
    any_encoder: bool = False


_BOTH: frozenset[TaskKind] = frozenset({"classification", "regression"})
_GRADIENT = Method(tasks=_BOTH, options=frozenset({"inner_steps", "inner_lr"}))

METHODS: dict[str, Method] = {
    "protonet": Method(tasks=frozenset({"classification"}), options=frozenset(), any_encoder=True),
    "ridge": Method(tasks=_BOTH, options=frozenset({"l2"}), any_encoder=True),
    "maml": _GRADIENT,
    "fomaml": _GRADIENT,
    "anil": _GRADIENT,
}

_METHOD_OPTIONS = ("inner_steps", "inner_lr", "l2")


def allowed_learners(manifest: Manifest) -> list[str]:
    """The checkpoint's own learner first, then those that work on any encoder and do one of its tasks."""
    others = [
        name
        for name, method in METHODS.items()
        if method.any_encoder and name != manifest.learner.name and method.tasks & set(manifest.tasks)
    ]
    return [manifest.learner.name, *others]


def choose_learner(manifest: Manifest, options: LearnerOptions) -> str:
    """The learner a task runs with. Raises Invalid for one the checkpoint cannot run and for options it ignores."""
    name = options.learner or manifest.learner.name
    allowed = allowed_learners(manifest)
    if name not in allowed:
        raise Invalid(f"this checkpoint runs {', '.join(allowed)}", param="options.learner")
    honoured = METHODS[name].options if name in METHODS else frozenset()
    for option in _METHOD_OPTIONS:
        if getattr(options, option) is not None and option not in honoured:
            raise Invalid(f"learner {name} does not use {option}", param=f"options.{option}")
    return name


def possible_tasks(manifest: Manifest, learner: str) -> list[TaskKind]:
    """The kinds of task the checkpoint and the learner both do."""
    method = METHODS.get(learner)
    return [task for task in manifest.tasks if method is None or task in method.tasks]
