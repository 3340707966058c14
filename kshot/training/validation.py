"""How a model in training does on classes, tasks or rows that are held out: the points of a validation curve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.recipe import Recipe
from kshot.encoders.base import Encoder
from kshot.encoders.frozen import FrozenEncoder
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.episodes.tables import Table
from kshot.training.data import draws_sinusoids, load_pool
from kshot.training.evaluation import evaluate
from kshot.training.lineage import lineage_of
from kshot.training.measuring import groups_of
from kshot.training.model import Model, manifest_of
from kshot.training.multitask import mean_loss
from kshot.training.precompute import Tuned, precompute
from kshot.training.progress import gpus
from kshot.training.tables import holds_table, load_table

_SEED = 10_000
EPISODES = 60
_MOST_WAYS = 5
_QUERIES = (5, 3, 1)

Point = dict[str, Any]
"""``metric``, ``mean``, ``interval``, ``n_way``, ``k_shot``: what an event of kind ``validation`` tells."""


@dataclass(frozen=True)
class Validation:
    """The same held-out episodes (or rows) at each point. ``measure`` sees the model in ``eval()`` mode."""

    model: Model
    measure: Callable[[], Point]

    def point(self) -> Point | None:
        """Now. The model, its mode and torch's random state are left as they were; None where adapting fails."""
        mode = self.model.encoder.training
        self.model.encoder.eval()
        try:
            with torch.random.fork_rng(gpus(self.model.device)):
                return self.measure()
        except AdaptationFailed:
            return None
        finally:
            self.model.encoder.train(mode)


def validation_of(recipe: Recipe, model: Model, data: Path) -> Validation | None:
    """The validation of a job; None where the validation part of its data is empty or too small."""
    if recipe.data is None:
        return None
    try:
        return Validation(model, _measure_of(recipe, model, data, recipe.data.name))
    except Invalid:
        return None


def _measure_of(recipe: Recipe, model: Model, data: Path, name: str) -> Callable[[], Point]:
    training, encoder = recipe.training, model.encoder
    if draws_sinusoids(name, data):
        return _on(recipe, model, encoder, list(islice(sinusoids(training.k_shot[1], 20, _SEED), EPISODES)))
    if holds_table(name, data):
        table = load_table(name, "valid", data, recipe.seed, recipe.data.targets if recipe.data else ())
        if training.scheme == "multitask":
            return lambda: _on_rows(recipe, model, table)
        chosen = islice(groups_of(table, training.k_shot[1], training.n_query, _SEED), EPISODES)
        return _on(recipe, model, encoder, list(chosen))
    pool = load_pool(name, "valid", data, recipe.input)
    shape = _shape(pool)
    if isinstance(encoder, FrozenEncoder):
        _, pool = precompute(encoder, pool)
        encoder = Tuned(encoder)
    return _on(recipe, model, encoder, list(islice(episodes(pool, shape, _SEED), EPISODES)))


def _on(recipe: Recipe, model: Model, encoder: Encoder, chosen: Sequence[Episode]) -> Callable[[], Point]:
    manifest = manifest_of(recipe, lineage_of(recipe.model_copy(update={"data": None}), Path(), "", 0, 0.0))

    def measure() -> Point:
        head = {name: tensor.detach() for name, tensor in model.head.items()}
        row = evaluate(Checkpoint(manifest, encoder, head), "valid", iter(chosen), len(chosen))
        return row.model_dump(include={"metric", "mean", "interval", "n_way", "k_shot"})

    return measure


def _on_rows(recipe: Recipe, model: Model, table: Table) -> Point:
    with torch.no_grad():
        loss = float(mean_loss(recipe, model.encoder, model.head, table))
    return {"metric": "loss", "mean": loss, "interval": None, "n_way": None, "k_shot": None}


def _shape(pool: Pool) -> EpisodeShape:
    """One shot; as many queries as most classes allow. Raises Invalid where no two classes have two examples."""
    sizes = np.array([len(rows) for rows in pool.rows])
    enough = {n_query: int((sizes > n_query).sum()) for n_query in _QUERIES}
    wanted = min(_MOST_WAYS, len(sizes))
    n_query = next((n_query for n_query, classes in enough.items() if classes >= wanted), _QUERIES[-1])
    if enough[n_query] < 2:
        raise Invalid("the validation part is too small")
    return EpisodeShape(min(wanted, enough[n_query]), 1, n_query)
