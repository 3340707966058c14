"""Text intents by learner, without training: `python -m benchmarks.accuracy.texts --data ../shared/data`.

Every learner that works on any encoder, on the checkpoint `intents`: BANKING77, a data set it never saw, and CLINC150,
whose training classes it saw. Results: `benchmarks/results/texts.*`. The same command goes on where it stopped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.accuracy.measuring import Budget, Column, Tasks, measure, measured
from benchmarks.accuracy.pages import write
from benchmarks.accuracy.runs import Settings, read_settings
from benchmarks.accuracy.table import Figure, Heading, Row, Table
from kshot.checkpoints import load_checkpoint, read_manifest
from kshot.contracts.methods import METHODS
from kshot.contracts.recipe import EvaluationTask
from kshot.contracts.tasks import LearnerOptions
from kshot.training.loop import Unfinished

CHECKPOINT = Path("checkpoints/intents")
_SPLITS: tuple[tuple[str, Literal["test", "all"]], ...] = (
    ("banking77", "test"),
    ("banking77", "all"),
    ("clinc150", "test"),
    ("clinc150", "all"),
)
_SHAPES = ((5, 1, 600), (5, 5, 600), (20, 5, 300), (None, 5, 100))
_NOTES = (
    "Checkpoint `intents` (static text embeddings with a head meta-trained on the CLINC150 training classes), with "
    "another learner asked for by `options.learner`; nothing is trained for this table.",
    "All classes of CLINC150 include those the checkpoint was meta-trained on; BANKING77 it never saw.",
    "No row of learning.md is published for these tasks, so none stands beside them.",
)


def columns() -> list[tuple[str, EvaluationTask]]:
    """What each learner is measured on, by name; None ways are all classes of the split."""
    found = []
    for data, split in _SPLITS:
        for n_way, k_shot, episodes in _SHAPES:
            ways = f"{n_way}-way" if n_way else "all ways"
            name = f"{data} {'test' if split == 'test' else 'all'} classes, {ways} {k_shot}-shot"
            task = EvaluationTask(data=data, split=split, n_way=n_way, k_shot=k_shot, episodes=episodes)
            found.append((name, task))
    return found


def learners() -> list[str]:
    """Those that need nothing meta-learned but the encoder, and do classes; with one target `multitask` is `ridge`."""
    fit = [name for name, method in METHODS.items() if method.any_encoder and "classification" in method.tasks]
    return sorted(set(fit) - {"multitask"})


def _column(learner: str, task: EvaluationTask) -> Column:
    return Column(Heading("", learner), task, LearnerOptions(learner=learner))


def work(settings: Settings) -> bool:
    """Measure what is not measured yet; False where the minutes were over before the end."""
    budget, tasks = Budget(settings.minutes), Tasks(load_checkpoint(CHECKPOINT), settings.data)
    wanted = [learner for learner in learners() if not settings.only or learner in settings.only]
    try:
        for learner in wanted:
            for _, task in columns():
                measure(tasks, _column(learner, task), settings.episodes or task.episodes, settings.work, budget)
    except Unfinished as stopped:
        print(stopped)
        return False
    return True


def table(settings: Settings) -> Table:
    """The table of what is measured: a row per kind of task, a column per learner."""
    manifest, rows = read_manifest(CHECKPOINT), []
    headings = {learner: Heading("", learner) for learner in learners()}
    for name, task in columns():
        figures: dict[Heading, Figure] = {}
        for learner, heading in headings.items():
            asked = settings.episodes or task.episodes
            figure = measured(settings.work, manifest, _column(learner, task), asked, scale=100)
            figures |= {} if figure is None else {heading: figure}
        rows.append(Row(name, figures))
    return Table("Text intents", "accuracy in %", tuple(headings.values()), tuple(rows), _NOTES)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = read_settings(str(__doc__), "texts", arguments)
    finished = work(settings)
    write(settings.out / "texts", table(settings))
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
