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
    "matching": Method(tasks=frozenset({"classification"}), options=frozenset(), any_encoder=True),
    "contrastive": Method(tasks=frozenset({"classification"}), options=frozenset(), any_encoder=True),
    "ridge": Method(tasks=_BOTH, options=frozenset({"l2"}), any_encoder=True),
    "maml": _GRADIENT,
    "fomaml": _GRADIENT,
    "anil": _GRADIENT,
    "metasgd": Method(tasks=_BOTH, options=frozenset({"inner_steps"})),
    "mamlpp": Method(tasks=_BOTH, options=frozenset({"inner_steps"})),
    "reptile": _GRADIENT,
    "finetune": Method(tasks=_BOTH, options=frozenset({"l2"}), any_encoder=True),
    "protomaml": Method(tasks=frozenset({"classification"}), options=_GRADIENT.options),
    "multitask": Method(tasks=_BOTH | {"multitask"}, options=frozenset({"l2"}), any_encoder=True),
}

JOINT_LEARNER = "multitask"
"""Adapts to supports of several targets, whatever the checkpoint's own learner is."""

_SINGLE: tuple[TaskKind, ...] = ("classification", "regression")
_METHOD_OPTIONS = ("inner_steps", "inner_lr", "l2")


def allowed_learners(manifest: Manifest) -> list[str]:
    """The checkpoint's own learner first, then those that work on any encoder and do one of its tasks."""
    others = [
        name
        for name, method in METHODS.items()
        if method.any_encoder and name != manifest.learner.name and method.tasks & set(manifest.tasks)
    ]
    return [manifest.learner.name, *others]


def choose_learner(manifest: Manifest, options: LearnerOptions, *, joint: bool = False) -> str:
    """The learner a task runs with; ``joint``: it has several targets, which one learner alone can do.

    Raises Invalid for a learner the checkpoint cannot run and for options it ignores.
    """
    name = options.learner or (JOINT_LEARNER if joint else manifest.learner.name)
    allowed = allowed_learners(manifest)
    if joint and name != JOINT_LEARNER:
        message = f"labels that are objects are learned by {JOINT_LEARNER}, on any checkpoint; leave this option out"
        raise Invalid(message, param="options.learner")
    if not joint and name not in allowed:
        raise Invalid(f"this checkpoint runs {', '.join(allowed)}", param="options.learner")
    honoured = METHODS[name].options if name in METHODS else frozenset()
    for option in _METHOD_OPTIONS:
        if getattr(options, option) is not None and option not in honoured:
            raise Invalid(f"learner {name} does not use {option}", param=f"options.{option}")
    return name


def possible_tasks(manifest: Manifest, learner: str) -> list[TaskKind]:
    """The kinds of task of one target that the checkpoint and the learner both do.

    A checkpoint meta-trained on tasks of several targets does those of one as well.
    """
    method = METHODS.get(learner)
    own: tuple[TaskKind, ...] = _SINGLE if "multitask" in manifest.tasks else manifest.tasks
    return [task for task in own if method is None or task in method.tasks]
