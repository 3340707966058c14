"""What a job is planned from, and what its data set can give."""

from dataclasses import dataclass
from typing import Literal

from kshot.contracts.checkpoints import Manifest, TaskKind
from kshot.contracts.datasets import DatasetManifest, Part
from kshot.contracts.job_bodies import NewJobRequest

Kind = Literal["classes", "tasks", "curves", "numbers", "table"]
"""``classes``: episodes are drawn from classes. ``tasks``: from recorded tasks, one at a time. ``curves``: sinusoids.
``numbers``: recorded tasks of regression. ``table``: several targets of the same rows, trained together."""

TURNS = 4


@dataclass(frozen=True)
class Wanted:
    """``base``: the manifest of the request's ``base_checkpoint``."""

    request: NewJobRequest
    dataset: DatasetManifest
    base: Manifest | None

    @property
    def kind(self) -> Kind:
        """What tasks the data set gives."""
        match self.dataset.format:
            case "sinusoid":
                return "curves"
            case "recorded_tasks":
                return "tasks" if self.dataset.task == "classification" else "numbers"
            case "table_csv":
                return "table"
        return "classes"

    @property
    def task(self) -> TaskKind:
        """The kind of task the checkpoint will do."""
        kinds: dict[Kind, TaskKind] = {"curves": "regression", "numbers": "regression", "table": "multitask"}
        return kinds.get(self.kind, "classification")

    @property
    def drawings(self) -> bool:
        """Whether these are small greyscale pictures, such as handwritten characters."""
        found = self.dataset.pictures
        return found is not None and found.greyscale and max(found.width, found.height) <= 128

    def classes_with(self, examples: int, part: Part) -> int:
        """How many classes of a part have so many examples."""
        sizes = self.dataset.sizes.get(part)
        if sizes is not None:
            return sum(size >= examples for size in sizes)
        enough = self.dataset.smallest is None or self.dataset.smallest >= examples
        return len(self.dataset.splits.get(part, ())) if enough else 0

    def most_examples(self, part: Part) -> int:
        """How many examples at least half of a part's classes have, and at least two of them."""
        sizes = sorted(self.dataset.sizes.get(part, ()), reverse=True)
        if not sizes:
            return self.dataset.smallest or 0
        return sizes[min(len(sizes) - 1, max(1, (len(sizes) - 1) // 2))]
