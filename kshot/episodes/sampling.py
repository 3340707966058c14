"""Seeded episodes: the same pool, shape and seed give the same episodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array, Inputs
from kshot.episodes.pool import Pool, Rows, take


@dataclass(frozen=True)
class Episode:
    """One learning problem with its answers.

    Targets: int64 (n,) class indices for classification, float32 (n, n_targets) for regression (``n_way`` None).
    """

    task: TaskKind
    n_way: int | None
    support: Inputs
    support_targets: Array
    query: Inputs
    query_targets: Array


@dataclass(frozen=True)
class EpisodeShape:
    """How many classes, support examples per class and queries per class an episode has."""

    n_way: int
    k_shot: int
    n_query: int


def draw_rows(pool: Pool, n_way: int, per_class: int, rng: np.random.Generator) -> Rows:
    """Rows (n_way, per_class) of the pool: ``n_way`` different classes, different examples of each.

    Raises Invalid where the pool is too small.
    """
    if len(pool.classes) < n_way or min(map(len, pool.rows)) < per_class:
        raise Invalid(f"the pool is too small for {n_way} classes of {per_class} examples")
    chosen = rng.choice(len(pool.classes), n_way, replace=False)
    return np.stack([rng.choice(pool.rows[index], per_class, replace=False) for index in chosen])


def sample_episode(pool: Pool, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
    """Draw classes, then ``k_shot + n_query`` different examples of each; support and query are shuffled.

    Raises Invalid where the pool is too small for the shape.
    """
    drawn = draw_rows(pool, shape.n_way, shape.k_shot + shape.n_query, rng)
    support, support_targets = _shuffled(drawn[:, : shape.k_shot], rng)
    query, query_targets = _shuffled(drawn[:, shape.k_shot :], rng)
    return Episode(
        "classification",
        shape.n_way,
        take(pool.inputs, support),
        support_targets,
        take(pool.inputs, query),
        query_targets,
    )


def episodes(pool: Pool, shape: EpisodeShape, seed: int) -> Iterator[Episode]:
    """Endless episodes of one shape from one seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield sample_episode(pool, shape, rng)


def _shuffled(drawn: Rows, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Rows (n_way, k) as one shuffled list with the class index of each."""
    order = rng.permutation(drawn.size)
    return drawn.reshape(-1)[order], np.repeat(np.arange(len(drawn)), drawn.shape[1])[order]
