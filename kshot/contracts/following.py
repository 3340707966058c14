"""When an adapted model that follows an alias may move to the checkpoint the alias moved to."""

import math
from collections.abc import Sequence
from typing import Literal

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest, TaskKind, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import choose_learner, possible_tasks
from kshot.contracts.tasks import LearnerOptions, Quality

Outcome = Literal["made", "followed", "kept", "failed"]


def learner_on(
    new: Manifest, old: InputSpec, options: LearnerOptions, task: TaskKind, shape: Sequence[int], n_targets: int | None
) -> str:
    """The learner that replays a support set of ``task`` on the checkpoint ``new``: the one the caller named, else the
    checkpoint's own. ``old``: the form in which the inputs, of this ``shape``, are stored. ``n_targets``: of the
    checkpoint the support was adapted to before.

    Raises Invalid, which says why the model cannot move.
    """
    if not fits(old, new.input, shape):
        raise Invalid("the new checkpoint takes another form of inputs than the examples are stored in")
    joint = task == "multitask"
    learner = choose_learner(new, options, joint=joint)
    if not joint and task not in possible_tasks(new, learner):
        raise Invalid(f"the new checkpoint does no {task} with {learner}")
    if task == "regression" and new.n_targets not in (None, n_targets):
        raise Invalid(f"the new checkpoint predicts {new.n_targets} targets")
    return learner


def fits(stored: InputSpec, wanted: InputSpec, shape: Sequence[int]) -> bool:
    """Whether canonical inputs made for ``stored``, each of this ``shape``, are what ``wanted`` would have made.

    Mean and deviation of pictures are the encoder's business: the canonical form is as decoded.
    """
    if isinstance(stored, ImageInput) and isinstance(wanted, ImageInput):
        plain = {"mean": (0.0,), "std": (1.0,)}
        return stored.model_copy(update=plain) == wanted.model_copy(update=plain)
    if isinstance(stored, VectorInput) and isinstance(wanted, VectorInput):
        return wanted.width is None or tuple(shape) == (wanted.width,)
    if isinstance(stored, TextInput) and isinstance(wanted, TextInput):
        return wanted.max_chars >= stored.max_chars
    return False


def is_worse(old: Quality | None, new: Quality | None) -> bool:
    """Whether ``new`` is lower than ``old``, on the same examples, by more than one standard error of the difference.

    The figures come from few examples, and an operator has promoted the checkpoint for better reasons than these: what
    chance alone may do to them must not keep a model behind. From a perfect score, one example lost is more than that.
    The error is that of two independent estimates (which examples failed is not stored, and pairs could only make it
    smaller): of a share p(1 - p) / n, of a mean squared error 2 mse^2 / n, as normal residuals have it. Where either
    figure is unknown, or they count different numbers of examples, nothing says that it is worse.
    """
    if old is None or new is None or old.n != new.n or old.n == 0:
        return False
    if old.accuracy is not None and new.accuracy is not None:
        variance = sum(p * (1 - p) / old.n for p in (old.accuracy, new.accuracy))
        return old.accuracy - new.accuracy > math.sqrt(variance)
    if old.mse is not None and new.mse is not None:
        variance = sum(2 * mse**2 / old.n for mse in (old.mse, new.mse))
        return new.mse - old.mse > math.sqrt(variance)
    return False


def is_worse_over_all(old: Sequence[Quality | None], new: Sequence[Quality | None]) -> bool:
    """Of several targets: whether more of them are worse than are better, each as `is_worse` has it."""
    pairs = list(zip(old, new, strict=False))
    return sum(is_worse(*pair) for pair in pairs) > sum(is_worse(after, before) for before, after in pairs)
