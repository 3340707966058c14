"""What a manifest records about how its checkpoint was made."""

from datetime import UTC, datetime
from pathlib import Path

import kshot
from kshot.contracts.checkpoints import DataSource, Lineage
from kshot.contracts.recipe import Recipe
from kshot.training.data import describe
from kshot.training.tables import describe_table, holds_table


def lineage_of(recipe: Recipe, data: Path, command: str, step: int, seconds: float) -> Lineage:
    """Of a model with ``step`` steps behind it, which took ``seconds``."""
    return Lineage(
        command=command,
        code_version=kshot.__version__,
        created_at=datetime.now(UTC).replace(microsecond=0),
        data=sources_of(recipe, data),
        parent=recipe.start.parent if recipe.start else None,
        seed=recipe.seed,
        steps=step,
        seconds=round(seconds, 1),
    )


def sources_of(recipe: Recipe, data: Path) -> list[DataSource]:
    """The data set a recipe trains on, with its digest; none where it has no data."""
    if recipe.data is None:
        return []
    if holds_table(recipe.data.name, data):
        return [describe_table(recipe.data.name, recipe.data.split, data, recipe.seed)]
    source = describe(recipe.data.name, recipe.data.split, data, recipe.input)
    return [source.model_copy(update={"n_classes": recipe.data.classes or source.n_classes})]
