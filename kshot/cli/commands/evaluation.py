"""The evaluation table of a checkpoint, or of the job that made it."""

from collections.abc import Sequence

from kshot.cli.describing import figure, shape
from kshot.cli.printing import data, table
from kshot.contracts.checkpoints import EvaluationRow


def print_evaluation(rows: Sequence[EvaluationRow]) -> None:
    """Each row's mean with its 95% interval, on held-out classes; nothing where there are none."""
    if rows:
        data("")
        columns = ["data", "shape", "figure", "episodes"]
        table(columns, ([row.data, shape(row), figure(row), row.episodes] for row in rows))
