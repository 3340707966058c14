"""Comparing a challenger with what is in production: what is asked of the process that does it, and what it finds."""

from typing import Literal

from kshot.contracts.checkpoints import Estimate, ImageInput, Manifest, Stored, TaskKind, TextInput, VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import possible_tasks

Verdict = Literal["better", "no_worse", "worse"]
Side = Literal["challenger", "incumbent"]

GATE_FILE = "gate.json"
COMPARISON_FILE = "comparison.json"
FAILURE_FILE = "failure.json"


class GateSpec(Stored):
    """What is compared, as GATE_FILE of a work folder; all three are ids.

    The data set lies in ``data/<its id>`` of the folder, the checkpoints in ``checkpoints/challenger`` and
    ``checkpoints/incumbent``. What comes of it is written to COMPARISON_FILE, or a Failure to FAILURE_FILE.
    """

    challenger: str
    incumbent: str
    dataset: str


class ComparedShape(Stored):
    """Both checkpoints on the same episodes of one shape.

    ``ahead``: by how much the challenger does better, episode by episode (accuracy: its own less the incumbent's;
    mse: the incumbent's less its own), so above 0 is better for either metric. ``tasks``: from so many recorded tasks
    the episodes were drawn, and the intervals are over these; None where they are over the episodes.
    """

    n_way: int | None = None
    k_shot: int
    metric: Literal["accuracy", "mse"]
    challenger: Estimate
    incumbent: Estimate
    ahead: Estimate
    episodes: int
    tasks: int | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the 95% interval of ``ahead`` lies below 0."""
        return self.ahead.mean + self.ahead.interval < 0

    @property
    def is_better(self) -> bool:
        """Whether it lies above 0."""
        return self.ahead.mean - self.ahead.interval > 0


class Comparison(Stored):
    """A challenger and the incumbent on held-out episodes of one data set.

    ``worse``: in some shape the 95% interval of ``ahead`` lies below 0. ``better``: in some it lies above, and in none
    below. ``part``: of the data set; ``valid`` where its test part is too small. ``trained_on``: which of the two was
    meta-trained on other parts of this very data set, as far as lineage tells; the other one met it unprepared.
    """

    challenger: str
    incumbent: str
    dataset: str
    part: Literal["test", "valid"] = "test"
    rows: tuple[ComparedShape, ...]
    verdict: Verdict
    trained_on: tuple[Side, ...] = ()


def verdict_of(rows: tuple[ComparedShape, ...]) -> Verdict:
    """As ``Comparison`` defines it."""
    if any(row.is_worse for row in rows):
        return "worse"
    return "better" if any(row.is_better for row in rows) else "no_worse"


def describe_loss(comparison: Comparison) -> str:
    """In one sentence: the shape in which the challenger falls behind most clearly, and by how much."""
    row = min(comparison.rows, key=lambda row: row.ahead.mean + row.ahead.interval)
    shape = f"{row.n_way}-way {row.k_shot}-shot" if row.n_way else f"{row.k_shot}-shot"
    metric = "accuracy" if row.metric == "accuracy" else "mean squared error"
    whose = f" of {row.tasks} tasks" if row.tasks else ""
    behind = -row.ahead.mean
    low, high = behind - row.ahead.interval, behind + row.ahead.interval
    return (
        f"{shape} {metric} {row.challenger.mean:.4g} against {row.incumbent.mean:.4g} in production: behind by "
        f"{behind:.3g} (95% interval {low:.3g} to {high:.3g}) over {row.episodes} episodes{whose}"
    )


def check_comparable(challenger: Manifest, incumbent: Manifest, dataset: DatasetManifest) -> None:
    """Raises Invalid naming ``checkpoint`` where the challenger does not do all that the incumbent serves, so that no
    comparison could speak for its callers; ``dataset`` where it suits not both."""
    if challenger.input.modality != incumbent.input.modality:
        raise Invalid(
            f"it takes {challenger.input.modality}s and the one in production takes {incumbent.input.modality}s, so "
            "they cannot be compared; promote it with force: true",
            param="checkpoint",
        )
    tasks = [set(possible_tasks(one, one.learner.name)) for one in (challenger, incumbent)]
    if reason := _lacking(challenger, incumbent, *tasks):
        raise Invalid(f"{reason}; its callers would be refused: promote it with force: true", param="checkpoint")
    for one, able in zip((challenger, incumbent), tasks, strict=True):
        if reason := _unsuited(one, able, dataset):
            raise Invalid(f"{reason}; name another data set, or promote with force: true", param="dataset")


def _lacking(challenger: Manifest, incumbent: Manifest, own: set[TaskKind], served: set[TaskKind]) -> str | None:
    """What callers of the one in production get that the challenger would refuse; None where it does it all."""
    if lost := served - own:
        return f"the one in production does {' and '.join(sorted(lost))}, which it does not"
    if "regression" in served and challenger.n_targets not in (None, incumbent.n_targets):
        before = "any number of" if incumbent.n_targets is None else incumbent.n_targets
        return f"the one in production predicts {before} targets, it {challenger.n_targets}"
    new, old = challenger.input, incumbent.input
    if isinstance(new, VectorInput) and isinstance(old, VectorInput) and new.width not in (None, old.width):
        before = "any width" if old.width is None else f"width {old.width}"
        return f"the one in production takes vectors of {before}, it only of width {new.width}"
    if isinstance(new, TextInput) and isinstance(old, TextInput) and new.max_chars < old.max_chars:
        return f"the one in production takes texts of {old.max_chars} characters, it only of {new.max_chars}"
    return None


def _unsuited(one: Manifest, able: set[TaskKind], dataset: DatasetManifest) -> str | None:
    """Why a checkpoint cannot be measured on a data set."""
    if dataset.modality != one.input.modality:
        return f"the data set {dataset.name} holds {dataset.modality}s, not {one.input.modality}s"
    wanted: set[TaskKind] = {"classification", "regression"} if dataset.task == "multitask" else {dataset.task}
    if not wanted & able:
        return f"the data set {dataset.name} is for {dataset.task}, which not both checkpoints do"
    spec = one.input
    if isinstance(spec, VectorInput) and None not in (spec.width, dataset.width) and spec.width != dataset.width:
        return f"the vectors of the data set {dataset.name} are {dataset.width} wide, not {spec.width}"
    if isinstance(spec, ImageInput) and isinstance(dataset.input, ImageInput) and not _alike(spec, dataset.input):
        return f"the pictures of the data set {dataset.name} were kept in another form than both checkpoints take"
    return None


def _alike(one: ImageInput, other: ImageInput) -> bool:
    """Whether canonical pictures of the one are those of the other: the encoder normalises by itself."""
    return one.model_dump(exclude={"mean", "std"}) == other.model_dump(exclude={"mean", "std"})
