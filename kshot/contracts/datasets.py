"""Data sets of meta-training: what an upload is found to hold, and what a job's data folder says about it."""

from typing import Annotated, Literal

from pydantic import Field

from kshot.contracts.checkpoints import InputSpec, Name, Stored
from kshot.contracts.tasks import TargetKind

Format = Literal[
    "image_zip", "text_csv", "text_jsonl", "vector_npz", "vector_csv", "table_csv", "sinusoid", "recorded_tasks"
]
Modality = Literal["image", "text", "vector"]
Part = Literal["train", "valid", "test"]
DATASET_FILE = "dataset.json"
"""The name under which a data set's manifest lies in its folder ``DATA/<id>``, beside the data themselves."""


class Pictures(Stored):
    """What the pictures of a data set are like, from a sample: so that a job has good defaults.

    ``width``, ``height``: medians. ``dark_on_light``: most of the area is light, as ink on paper.
    """

    greyscale: bool
    width: int
    height: int
    dark_on_light: bool


class Columns(Stored):
    """Which columns (or arrays, or JSON keys) hold what.

    ``inputs``: the text; of a table of numbers or an npz archive the array, or None for all other columns of a CSV.
    ``label``: the class. ``targets``: of a multi-task table, with their kinds; they replace the label. ``group``: rows
    of one group (a patient, a document) stay on one side of the split.
    """

    inputs: str | None = None
    label: str = "label"
    targets: dict[str, TargetKind] = {}
    group: str | None = None


class PartCount(Stored):
    """Classes (None for tables and tasks) and examples of one part of a split."""

    n_classes: int | None = None
    n_examples: int


class RecordedFrom(Stored):
    """Which of the service's own tasks: those adapted from checkpoints of this name, of tenants that opted in."""

    checkpoint: Name
    tenants: tuple[str, ...]
    """Ids of tenants; each has opted in, or its tasks are left out."""


class DatasetManifest(Stored):
    """A data set as the registry and a job's data folder know it.

    ``file``: the data's name in that folder; None where they are drawn. ``sha256``: of the file; of recorded tasks it
    is filled in where they are laid down. ``splits``: classes by part; empty where rows or tasks are split instead, by
    ``seed``. ``shares``: of train, valid and test. ``input``: of data that are canonical already (recorded tasks).
    ``smallest``: examples of the smallest class. ``sizes``: examples of each class, in the order of ``splits``.
    """

    id: str
    name: Name
    format: Format
    modality: Modality
    task: Literal["classification", "regression", "multitask"] = "classification"
    file: str | None = None
    sha256: str = ""
    columns: Columns = Columns()
    splits: dict[Part, tuple[str, ...]] = {}
    shares: tuple[float, float, float] = (0.64, 0.16, 0.2)
    seed: Annotated[int, Field(ge=0)] = 0
    n_examples: int = 0
    counts: dict[Part, PartCount] = {}
    smallest: int | None = None
    sizes: dict[Part, tuple[int, ...]] = {}
    width: int | None = None
    pictures: Pictures | None = None
    input: InputSpec | None = None
    recorded: RecordedFrom | None = None
