"""The bodies of data sets over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kshot.contracts.api import Answer
from kshot.contracts.checkpoints import Name
from kshot.contracts.datasets import Columns, PartCount, Pictures
from kshot.contracts.model import Model
from kshot.contracts.tasks import MAX_TARGETS, TargetKind, TargetName

FileFormat = Literal["image_zip", "text_csv", "text_jsonl", "vector_npz", "vector_csv", "table_csv"]
_ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Description = Annotated[str, Field(max_length=1000)]


class ColumnsRequest(Model):
    """Which columns of a table (JSON keys, arrays of an npz archive) hold what."""

    inputs: _ColumnName | None = Field(default=None, description="The texts, by default `text`; npz: `inputs`")
    label: _ColumnName = Field(default="label", description="The class; npz: `labels`, where nothing else is said")
    targets: Annotated[dict[TargetName, TargetKind], Field(max_length=MAX_TARGETS)] = Field(
        default={}, description="Of a table with several columns to predict (blanks allowed): name and kind of each"
    )
    group: _ColumnName | None = Field(
        default=None, description="Of such a table: rows of one group stay in one part of the split"
    )

    def as_columns(self) -> Columns:
        """The same, as it is stored."""
        return Columns(inputs=self.inputs, label=self.label, targets=dict(self.targets), group=self.group)


class SharesRequest(Model):
    """How much goes where. They sum to 1; `train` takes what rounding leaves."""

    train: Annotated[float, Field(gt=0, le=1)]
    valid: _Share = 0.0
    test: _Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SharesRequest":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError("the shares must sum to 1")
        return self


class SplitRequest(Model):
    """A split drawn by a seed: by class, by group or row of a table, by recorded task."""

    shares: SharesRequest = SharesRequest(train=0.64, valid=0.16, test=0.2)
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def as_shares(self) -> tuple[float, float, float]:
        """Of train, valid and test."""
        return (self.shares.train, self.shares.valid, self.shares.test)


class NewDatasetRequest(Model):
    """The part `request` of `POST /v1/datasets` with a file."""

    name: Name
    description: _Description = ""
    format: FileFormat | None = Field(default=None, description="By default guessed from the file")
    columns: ColumnsRequest = ColumnsRequest()
    split: SplitRequest = SplitRequest()


class NewBuiltInRequest(Model):
    """`POST /v1/datasets` without a file. `sinusoid`: tasks are drawn. `omniglot`: from the operator's data folder.
    `recorded-tasks`: what callers adapted to, of tenants that opted in."""

    name: Name
    description: _Description = ""
    source: Literal["sinusoid", "omniglot", "recorded-tasks"]
    checkpoint: Name | None = Field(
        default=None, description="`recorded-tasks` only: tasks adapted from checkpoints of this name"
    )
    task: Literal["classification", "regression"] | None = Field(
        default=None, description="`recorded-tasks` only: which kind of task; by default what the checkpoint does first"
    )
    tenants: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="`recorded-tasks` only: whose tasks, by name of the tenant; yours by default"
    )
    split: SplitRequest | None = Field(default=None, description="`recorded-tasks` only")


class RecordedSource(Answer):
    """Which recorded tasks a data set stands for."""

    checkpoint: str
    tenants: list[str] = Field(description="Ids of tenants; one that no longer lets its tasks be recorded gives none")


class Dataset(Answer):
    """Data to meta-train on. Immutable; of `recorded_tasks` each job takes what was recorded when it began."""

    object: Literal["dataset"] = "dataset"
    id: str
    name: str
    description: str
    format: str = Field(description="`image_zip`, `text_csv`, ..., `sinusoid`, `recorded_tasks`; may grow")
    modality: Literal["image", "text", "vector"]
    task: Literal["classification", "regression", "multitask"]
    n_examples: int = Field(description="0 where they are drawn or recorded")
    counts: dict[str, PartCount] = Field(description="Classes and examples of each part of the split")
    smallest: int | None = Field(description="Examples of the smallest class")
    width: int | None = Field(description="Of vectors")
    pictures: Pictures | None
    columns: Columns
    seed: int = Field(description="Of the split")
    recorded: RecordedSource | None = None
    sha256: str = Field(description="Of the file; empty where there is none")
    bytes: int
    splits: dict[str, list[str]] | None = Field(
        default=None, description="One data set alone: the classes of each part, up to 1000; `counts` has all"
    )
    sizes: dict[str, list[int]] | None = Field(
        default=None, description="One data set alone: the examples of each class in `splits`, in the same order"
    )
    used_by: list[str] | None = Field(
        default=None, description="One data set alone: ids of open jobs and promotions that need it"
    )
    created_at: datetime


class DatasetSample(Answer):
    """One example of a data set, as far as it is shown."""

    object: Literal["dataset_sample"] = "dataset_sample"
    label: str | None = Field(description="Its class; null in a table with several targets")
    part: str | None = Field(description="`train`, `valid` or `test`; null where rows are split instead of classes")
    image: str | None = Field(description="At most 96 x 96 pixels, PNG as a data URL")
    text: str | None
    numbers: list[float] = Field(description="The first 8 of a vector")
    targets: dict[str, str] | None = Field(description="Of a table: what is to be predicted; blank where it is unknown")


class DatasetSamples(Answer):
    """A few examples of a data set; none where they are drawn, or are callers' own tasks."""

    object: Literal["dataset_samples"] = "dataset_samples"
    dataset: str
    data: list[DatasetSample]
