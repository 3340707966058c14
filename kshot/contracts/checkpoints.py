"""The manifest of a checkpoint: everything about it but the weights."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from kshot.contracts.model import Model

TaskKind = Literal["classification", "regression", "multitask"]
"""``multitask``: several targets of one support, each of them one of the other two kinds."""
MANIFEST_FILE, WEIGHTS_FILE = "manifest.json", "weights.safetensors"
"""What a checkpoint's folder holds."""
GRADIENT_LEARNERS = frozenset({"maml", "fomaml", "anil", "metasgd", "mamlpp", "reptile", "protomaml"})
"""The learners that adapt by gradient descent."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Stored(Model):
    """A model read back from JSON: lists become tuples, strings become dates."""

    model_config = ConfigDict(strict=False)


class ImageInput(Stored):
    """Images. Canonical array: uint8 (n, height, width, channels); the encoder sees (x / 255 - mean) / std.

    ``fit``: ``crop`` scales the shorter side and crops the centre, ``stretch`` ignores the aspect ratio.
    ``invert``: the picture is dark ink on light paper and the encoder was trained on ink = 1.
    """

    modality: Literal["image"] = "image"
    height: int
    width: int
    channels: Literal[1, 3]
    fit: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    invert: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class VectorInput(Stored):
    """Vectors. Canonical array: float32 (n, width). ``width`` None: each task brings its own width."""

    modality: Literal["vector"] = "vector"
    width: int | None = None


class TextInput(Stored):
    """Texts. Canonical form: a list of n non-empty strings of at most ``max_chars`` characters."""

    modality: Literal["text"] = "text"
    max_chars: int = 4000


InputSpec = Annotated[ImageInput | VectorInput | TextInput, Field(discriminator="modality")]


class EncoderSpec(Stored):
    """Input -> embedding: a name in the encoder registry and its constructor's arguments."""

    name: str
    options: dict[str, Any] = {}


class LearnerSpec(Stored):
    """The method that adapts: a name in the learner registry and its default options.

    ``precision``: ``bfloat16`` is for learners with an inner loop; what they compute so is the encoder that the loop
    moves, or whose norms belong to the task (``anil`` moves none). Meta-training computes in float32 all the same.
    """

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known_precision(self) -> "LearnerSpec":
        precision = self.options.get("precision", "float32")
        if precision not in ("float32", "bfloat16"):
            raise ValueError("a learner's precision is float32 or bfloat16")
        if precision == "bfloat16" and self.name not in GRADIENT_LEARNERS:
            raise ValueError(
                f"learner {self.name} has no inner loop that could compute in bfloat16: leave precision out"
            )
        return self


class DataSource(Stored):
    """Data a checkpoint was meta-trained on: which, exactly (sha256 of the file), and which classes of it.

    ``id``: of the data set, where it was uploaded to the service.
    """

    name: str
    sha256: str
    split: str
    n_classes: int | None = None
    id: str | None = None


class Lineage(Stored):
    """Where a checkpoint comes from. ``command`` makes it again; of a job it is the request that does.

    ``parent``: name of the checkpoint it began at, or its id where a job made it. ``settings``: of a job, its recipe.
    """

    command: str
    code_version: str
    created_at: datetime
    data: list[DataSource] = []
    parent: str | None = None
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    job: str | None = None
    settings: dict[str, Any] | None = None


class Estimate(Stored):
    """A figure over episodes and half the width of its 95% interval."""

    mean: float
    interval: float


class EvaluationRow(Stored):
    """One line of the evaluation table: mean over episodes with the half-width of its 95% interval.

    ``more``: other figures of the same episodes by name, as ``kshot.metrics`` defines them: ``macro_f1``, ``recall``,
    ``precision``, ``calibration_error``; ``r2``. Tables made before they were measured have none.
    ``tasks``: from so many recorded tasks (or groups of a table) the episodes were drawn, and the intervals are over
    these; None where each episode is a task of its own.
    """

    data: str
    n_way: int | None = None
    k_shot: int
    metric: Literal["accuracy", "mse"]
    mean: float
    interval: float
    episodes: int
    tasks: int | None = None
    inductive: bool = True
    more: dict[str, Estimate] = {}


class Signature(Stored):
    """What tells a support like the meta-training data from a strange one (kshot/relations/signature.py).

    ``between``: mean squared distance of the embeddings of two examples of different held-out classes.
    """

    between: float


class Manifest(Stored):
    """A checkpoint's manifest, stored as JSON beside its safetensors file."""

    format: Literal["kshot-checkpoint/1"] = "kshot-checkpoint/1"
    name: Name
    description: str
    tasks: tuple[TaskKind, ...]
    input: InputSpec
    encoder: EncoderSpec
    learner: LearnerSpec
    n_targets: int | None = None
    lineage: Lineage
    evaluation: list[EvaluationRow] = []
    signature: Signature | None = None
    weights_sha256: str = ""
