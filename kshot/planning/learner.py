"""Which learner a job meta-trains, and with which options."""

from collections.abc import Mapping
from dataclasses import dataclass

from kshot.contracts.checkpoints import LearnerSpec, TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import METHODS, possible_tasks
from kshot.planning.encoder_options import FROZEN
from kshot.planning.wanted import Kind, Wanted

Options = dict[str, int | float | str | bool]

GRADIENT = frozenset({"maml", "fomaml", "anil", "metasgd", "mamlpp", "reptile", "protomaml"})
_NOT_TRAINED = "finetune"
_WITHOUT_HEAD = frozenset({"contrastive", "protomaml"})
"""They meta-learn the encoder alone."""
_USUAL: Mapping[Kind, str] = {"curves": "maml", "numbers": "ridge", "table": "multitask"}


@dataclass(frozen=True)
class Range:
    """The numbers an option may be."""

    kind: type[int] | type[float]
    low: float
    high: float


Choice = tuple[str, ...]
_STEPS, _RATE = Range(int, 1, 50), Range(float, 1e-6, 10.0)
_SHARE = Range(float, 0.0, 1.0)
_INNER = {"inner_steps": _STEPS, "inner_lr": _RATE}
LEARNER_OPTIONS: Mapping[str, Mapping[str, Range | Choice]] = {
    "protonet": {},
    "matching": {"distance": ("l2", "cosine", "dot")},
    "contrastive": {
        "margin": Range(float, 1e-6, 1e6),
        "balance": Range(float, 0.0, 1e6),
        "serving": ("mean", "knn"),
    },
    "ridge": {},
    "multitask": {},
    **dict.fromkeys(("maml", "fomaml", "anil", "metasgd", "protomaml"), _INNER),
    "mamlpp": _INNER | {"multi_step_share": _SHARE, "first_order_share": _SHARE},
    "reptile": _INNER | {"inner_batch": Range(int, 1, 1000)},
}
"""What a job may say about a learner; in meta-training itself, and where it is known there, in what is served too."""

_TRAINING_ONLY = frozenset({"inner_batch", "multi_step_share", "first_order_share"})
_ON_PICTURES: Mapping[str, Options] = {
    "maml": {"inner_steps": 5, "inner_lr": 0.1},
    "fomaml": {"inner_steps": 5, "inner_lr": 0.1},
    "anil": {"inner_steps": 5, "inner_lr": 0.1},
    "metasgd": {"inner_steps": 3, "inner_lr": 0.1},
    "mamlpp": {"inner_steps": 5, "inner_lr": 0.1},
    "protomaml": {"inner_steps": 3, "inner_lr": 0.01},
    "reptile": {"inner_steps": 20, "inner_lr": 0.001},
}
"""Of benchmarks/recipes/omniglot."""
_ON_VECTORS: Options = {"inner_steps": 5, "inner_lr": 0.02}
_IN_TRAINING: Mapping[str, Options] = {
    "anil": {"inner_lr": 0.4},
    "reptile": {"inner_steps": 5, "inner_batch": 10},
}


def choose_learner(wanted: Wanted, encoder: str) -> str:
    """The request's learner, or the base checkpoint's, or the one that suits the data and the encoder.

    Raises Invalid where it cannot be meta-trained on such tasks and such an encoder.
    """
    asked = wanted.request.learner
    if asked is None:
        return _default(wanted, encoder)
    reason = why_not(wanted, asked, encoder)
    if reason is not None:
        raise Invalid(reason, param="learner")
    return asked


def why_not(wanted: Wanted, learner: str, encoder: str) -> str | None:
    """Why a learner cannot be meta-trained on these data with this encoder; None where it can."""
    if learner not in METHODS:
        return f"unknown learner; choose one of {', '.join(name for name in METHODS if name != _NOT_TRAINED)}"
    if learner == _NOT_TRAINED:
        return "finetune is not meta-trained: choose ridge, and finetune may still be asked for when adapting"
    if wanted.task not in METHODS[learner].tasks:
        frozen = GRADIENT if encoder in FROZEN else frozenset[str]()
        others = METHODS.keys() - frozen - {_NOT_TRAINED}
        able = ", ".join(name for name in METHODS if name in others and wanted.task in METHODS[name].tasks)
        return f"learner {learner} does not do {wanted.task} tasks; choose one of {able}"
    if learner in GRADIENT and encoder in FROZEN:
        return f"learner {learner} would move the {encoder} encoder, which is frozen; choose ridge or protonet"
    if learner in _WITHOUT_HEAD and encoder in (FROZEN | {"identity"}) - {"mapped"}:
        return f"there is nothing for {learner} to train on the {encoder} encoder; choose ridge or protonet"
    return None


def choose_tasks(wanted: Wanted, learner: str) -> tuple[TaskKind, ...]:
    """What the checkpoint will do: the tasks it is trained on first, then what the base does too and the learner still
    can, so that a job on one kind of task takes no other from callers of the base. Only learners that need nothing but
    an encoder can: another's head is made for the tasks it is trained on."""
    method, base = METHODS[learner], wanted.base
    if base is None or wanted.task == "multitask" or not method.any_encoder:
        return (wanted.task,)
    return tuple(dict.fromkeys((wanted.task, *possible_tasks(base, learner), *(method.tasks & set(base.tasks)))))


def choose_n_targets(wanted: Wanted, learner: str) -> int | None:
    """Numbers in a label of regression; None where that is any. A base's stays; of recorded tasks no planning knows it,
    and a learner that needs nothing but an encoder does not ask."""
    if wanted.task == "multitask":
        return None
    free, base = METHODS[learner].any_encoder, wanted.base
    if base is not None and (free or base.n_targets is not None):
        return base.n_targets
    return 1 if wanted.task == "regression" and not (free and wanted.kind == "numbers") else None


def learner_options(wanted: Wanted, learner: str) -> tuple[LearnerSpec, Options]:
    """The learner with the options it is served with, and those of meta-training alone. Raises Invalid."""
    given = wanted.request.options
    for name, value in given.items():
        _check(learner, name, value)
    usual = _ON_PICTURES.get(learner, {}) if wanted.dataset.modality == "image" else _on_vectors(learner)
    trained = {name: value for name, value in _IN_TRAINING.get(learner, {}).items() if name not in given}
    if wanted.dataset.modality != "image":
        trained.pop("inner_lr", None)
    served = {**usual, **{name: value for name, value in given.items() if name not in _TRAINING_ONLY}}
    trained |= {name: value for name, value in given.items() if name in _TRAINING_ONLY}
    return LearnerSpec(name=learner, options=served), trained


def _default(wanted: Wanted, encoder: str) -> str:
    if wanted.base is not None and why_not(wanted, wanted.base.learner.name, encoder) is None:
        return wanted.base.learner.name
    pictures = encoder in {"conv4", "resnet12"}
    return _USUAL.get(wanted.kind, "protonet" if pictures else "ridge")


def _on_vectors(learner: str) -> Options:
    if learner == "reptile":
        return dict(_ON_PICTURES[learner])
    return dict(_ON_VECTORS) if learner in GRADIENT else {}


def _check(learner: str, name: str, value: object) -> None:
    known, param = LEARNER_OPTIONS[learner], f"options.{name}"
    allowed = known.get(name)
    if allowed is None:
        takes = ", ".join(known) or "none"
        raise Invalid(f"learner {learner} has no such option while it is meta-trained; it has {takes}", param=param)
    if isinstance(allowed, tuple):
        if value not in allowed:
            raise Invalid(f"choose one of {', '.join(allowed)}", param=param)
        return
    number = isinstance(value, int if allowed.kind is int else (int, float)) and not isinstance(value, bool)
    if not number or not allowed.low <= value <= allowed.high:  # type: ignore[operator]
        kind = "a whole number" if allowed.kind is int else "a number"
        raise Invalid(f"must be {kind} from {allowed.low:g} to {allowed.high:g}", param=param)
