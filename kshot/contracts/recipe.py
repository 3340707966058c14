"""A recipe: everything that makes a checkpoint, in one TOML file beside it."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from kshot.contracts.checkpoints import EncoderSpec, InputSpec, LearnerSpec, Name, Stored, TaskKind
from kshot.contracts.errors import Invalid

Weighting = Literal["equal", "uncertainty", "affinity", "pcgrad", "upgrad"]
"""How the losses of several targets become one step (:mod:`kshot.training.weighting`)."""

Range = tuple[int, int]
"""Lowest and highest value, both included; drawn anew for each episode."""


class Data(Stored):
    """Where the tasks of meta-training come from: a name in :mod:`kshot.training.data`, and a split of its classes.

    ``classes``: only so many of them, drawn by the recipe's seed. Or a table of :mod:`kshot.training.tables`, a part of
    its rows and, where not all, its ``targets``. Of a job it is the id of a data set, a folder of that name.
    ``rotations``: each training picture turned by 90, 180 and 270 degrees is of a class of its own.
    """

    name: str
    split: Literal["train", "valid", "trainval", "test"] = "train"
    targets: tuple[str, ...] = ()
    classes: Annotated[int, Field(ge=2)] | None = None
    rotations: bool = False


class Start(Stored):
    """Begin at another checkpoint's encoder (a folder beside this one) instead of at random.

    Batch norms are folded in where the recipe's encoder has ``affine`` norms, and lose their statistics where it has
    ``task`` norms; otherwise the encoders must be alike.
    ``gain``: with folded norms, the embedding times this number. With a larger embedding and a smaller inner_lr the
    head takes the same steps while the layers below take smaller ones, which keeps an inner loop stable that would
    otherwise overshoot.
    ``head``: begin at its head, too, where the learner's has the same form.
    """

    parent: Name
    gain: float = 1.0
    head: bool = False


class Hint(Stored):
    """Of a mapping: a teacher to take hints from (:mod:`kshot.training.mapping`), trained first and on the same data.

    ``weight``: of the hint loss beside the episodic one. ``training``: how the teacher is trained.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    teacher: EncoderSpec
    training: "Training"


class Training(Stored):
    """The outer loop: Adam, or plain SGD, with a learning rate that falls to zero along a cosine.

    ``steps``: 0 in a job with a time budget, which says how many. ``scheme``: ``folded`` for learners that work on
    embeddings (:mod:`kshot.training.metric`), ``episodes`` for gradient learners, whose encoder never sees batch
    statistics, ``multitask`` for the targets of one table together (:mod:`kshot.training.multitask`; ``weighting``: of
    their losses), ``mapping`` for a map after a frozen source that takes hints (:mod:`kshot.training.mapping`).
    ``meta_batch``: draws, or rows of a table, per step. ``weight_decay``: each Adam step takes off lr times this share.
    ``precision``: what the encoder of a folded scheme computes in. ``max_gradient``: the gradient is scaled down to
    this norm.
    ``options``: learner options of meta-training alone. ``warp``: how much pictures are turned, scaled, sheared and
    moved at random (:mod:`kshot.training.warping`), 0 to 1.
    """

    steps: int = Field(ge=0)
    scheme: Literal["folded", "episodes", "multitask", "mapping"] = "folded"
    weighting: Weighting = "equal"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    meta_batch: int = 1
    n_way: Range | None = None
    k_shot: Range = (1, 1)
    n_query: int = 1
    lr: float = 1e-3
    optimiser: Literal["adam", "sgd"] = "adam"
    warp: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_gradient: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    options: dict[str, int | float | str | bool] = {}


class EvaluationTask(Stored):
    """One row to measure for the manifest's evaluation table. ``options``: what a caller would ask the learner."""

    data: str
    split: Literal["train", "valid", "test", "all"] = "test"
    n_way: int | None = None
    k_shot: int
    n_query: int = 15
    episodes: Annotated[int, Field(ge=2)] = 600
    options: dict[str, int | float | str | bool] = {}


class Recipe(Stored):
    """``input``, ``encoder``, ``learner`` and ``tasks`` go into the manifest as they are."""

    name: Name
    description: str
    tasks: tuple[TaskKind, ...]
    n_targets: int | None = None
    seed: int = 0
    input: InputSpec
    encoder: EncoderSpec
    learner: LearnerSpec
    start: Start | None = None
    hint: Hint | None = None
    data: Data | None = None
    training: Training
    evaluation: list[EvaluationTask] = []


def read_recipe(file: Path) -> Recipe:
    """Raises Invalid where the file is not a recipe."""
    try:
        return Recipe.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid("the recipe cannot be read as TOML") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"the recipe is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
