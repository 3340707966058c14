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
    ``group``: which group of its pool or table it is drawn from, where there are any. Episodes of one group are draws
    from the same few examples, not tasks of their own.
    """

    task: TaskKind
    n_way: int | None
    support: Inputs
    support_targets: Array
    query: Inputs
    query_targets: Array
    group: int | None = None


@dataclass(frozen=True)
class EpisodeShape:
    """How many classes, support examples per class and queries per class an episode has."""

    n_way: int
    k_shot: int
    n_query: int


def draw_rows(pool: Pool, n_way: int, per_class: int, rng: np.random.Generator) -> Rows:
    """Rows (n_way, per_class) of the pool: different classes that have so many examples, different examples of each.

    Of a pool with groups, one group is drawn first, and there are fewer rows where it has fewer such classes.
    Raises Invalid where the pool is too small.
    """
    return _draw(pool, n_way, per_class, rng)[0]


def _draw(pool: Pool, n_way: int, per_class: int, rng: np.random.Generator) -> tuple[Rows, int | None]:
    """As ``draw_rows``, and the number of the group."""
    eligible, group = _eligible(pool, n_way, per_class, rng)
    n_way = min(n_way, len(eligible)) if group is not None else n_way
    chosen = eligible[rng.choice(len(eligible), n_way, replace=False)]
    return np.stack([rng.choice(pool.rows[index], per_class, replace=False) for index in chosen]), group


def _eligible(pool: Pool, n_way: int, per_class: int, rng: np.random.Generator) -> tuple[Rows, int | None]:
    """Numbers of the classes to choose from: those with enough examples, of a group drawn at random if there are any
    groups. The random stream is touched for groups alone, so recipes from before them still give the same weights."""
    enough = np.fromiter(map(len, pool.rows), np.int64, len(pool.rows)) >= per_class
    if pool.groups is None:
        found = np.flatnonzero(enough)
        if len(found) < n_way:
            raise Invalid(f"the pool is too small for {n_way} classes of {per_class} examples")
        return found, None
    groups = [(number, [index for index in group if enough[index]]) for number, group in enumerate(pool.groups)]
    groups = [(number, group) for number, group in groups if len(group) >= 2]
    if not groups:
        raise Invalid(f"no task of the pool has 2 classes of {per_class} examples: it is too small")
    number, chosen = groups[int(rng.integers(len(groups)))]
    return np.asarray(chosen, np.int64), number


def sample_episode(pool: Pool, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
    """Draw classes, then ``k_shot + n_query`` different examples of each; support and query are shuffled.

    Of a pool with groups the episode has at most as many ways as its group. Raises Invalid where the pool is too small.
    """
    drawn, group = _draw(pool, shape.n_way, shape.k_shot + shape.n_query, rng)
    support, support_targets = _shuffled(drawn[:, : shape.k_shot], rng)
    query, query_targets = _shuffled(drawn[:, shape.k_shot :], rng)
    return Episode(
        "classification",
        len(drawn),
        take(pool.inputs, support),
        support_targets,
        take(pool.inputs, query),
        query_targets,
        group,
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
