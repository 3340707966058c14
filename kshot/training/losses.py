"""The meta-loss of one outer step: draw a meta-batch, ask the learner."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe, Training
from kshot.encoders.base import Encoder
from kshot.encoders.frozen import FrozenEncoder
from kshot.episodes.pool import Pool, select_classes, with_rotations
from kshot.episodes.sampling import Episode, EpisodeShape, sample_episode
from kshot.episodes.sinusoids import sample_sinusoid
from kshot.episodes.tables import Table, sample_group, with_groups_of
from kshot.learners.base import Head, Learner
from kshot.training.data import draws_sinusoids, load_pool
from kshot.training.evaluation import as_support
from kshot.training.metric import BatchStatistics, draw, folded_meta_loss
from kshot.training.precompute import precompute
from kshot.training.tables import training_table
from kshot.training.warping import warp_inputs
from kshot.training.world import ALONE, World

TaskLoss = Callable[[np.random.Generator, float], Tensor]
"""Draws a meta-batch with the generator and gives this process's part of its loss: the sum of all parts is the loss.

The number says which share of training is past, 0 to 1.
"""


def task_loss(
    recipe: Recipe, learner: Learner, encoder: Encoder, head: Head, data: Path, world: World = ALONE
) -> TaskLoss:
    """A function that draws one meta-batch and gives this process's differentiable part of its loss."""
    if recipe.data is None:
        raise Invalid("a recipe with training steps must name its data")
    training = recipe.training
    options = {**recipe.learner.options, **training.options}
    if draws_sinusoids(recipe.data.name, data):
        return _episodes_loss(learner, encoder, head, training, options, partial(_sinusoid, training), world)
    table = training_table(recipe, data)
    if table is not None:
        table = with_groups_of(table, training.k_shot[1] + 1)
        return _episodes_loss(learner, encoder, head, training, options, partial(_group, table, training), world)
    pool = training_pool(recipe, data)
    training = fitted(training, pool)
    if training.scheme == "episodes":
        return _episodes_loss(learner, encoder, head, training, options, partial(_episode, pool, training), world)
    shortened, features = precompute(encoder, pool)
    if isinstance(encoder, FrozenEncoder):
        encoder.centre_on(torch.as_tensor(features.inputs))
    return folded_loss(learner, shortened, head, features, training, options, world)


def folded_loss(
    learner: Learner,
    encoder: Encoder,
    head: Head,
    pool: Pool,
    training: Training,
    options: dict[str, object],
    world: World = ALONE,
) -> TaskLoss:
    """The mean over ``meta_batch`` draws of what :func:`~kshot.training.metric.folded_meta_loss` says of each."""
    n = training.meta_batch

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        draws = [draw(pool, _shape(training, rng), training, rng) for _ in range(n)]
        statistics = BatchStatistics(encoder) if n > 1 else None
        losses, now = [], {**options, "done": done}
        for i in world.mine(n):
            losses.append(folded_meta_loss(learner, encoder, head, pool, draws[i], now, training))
            if statistics:
                statistics.collect()
        if statistics:
            statistics.settle(n, world)
        return torch.stack(losses).mean() * (len(losses) / n) if losses else _nothing()

    return loss


def training_pool(recipe: Recipe, data: Path) -> Pool:
    """The classes a recipe trains on. Raises Invalid where there are fewer than it wants."""
    assert recipe.data is not None
    pool = load_pool(recipe.data.name, recipe.data.split, data, recipe.input)
    if recipe.data.rotations:
        pool = with_rotations(pool)
    if recipe.data.classes is None:
        return pool
    if recipe.data.classes > len(pool.classes):
        raise Invalid(f"data set {recipe.data.name} has {len(pool.classes)} classes to train on")
    drawn = np.random.default_rng(recipe.seed).permutation(len(pool.classes))[: recipe.data.classes]
    return select_classes(pool, [pool.classes[index] for index in drawn])


def fitted(training: Training, pool: Pool) -> Training:
    """With shots and queries that at least half of the pool's groups can give: how large recorded tasks are shows only
    here. Of pools without groups, as the recipe says."""
    if pool.groups is None:
        return training
    sizes = [sorted(len(pool.rows[index]) for index in group) for group in pool.groups]
    seconds = sorted((own[-2] if len(own) > 1 else 0 for own in sizes), reverse=True)
    per_class = max(2, seconds[(len(seconds) - 1) // 2])
    n_query = min(training.n_query, max(1, per_class // 2))
    low, high = (min(shots, per_class - n_query) for shots in training.k_shot)
    return training.model_copy(update={"n_query": n_query, "k_shot": (low, high)})


def _episodes_loss(
    learner: Learner,
    encoder: Encoder,
    head: Head,
    training: Training,
    options: dict[str, object],
    sample: Callable[[np.random.Generator], Episode],
    world: World,
) -> TaskLoss:
    n = training.meta_batch

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        everyone = [sample(rng) for _ in range(n)]
        seeds = torch.randint(1 << 62, (n,))
        mine = world.mine(n)
        batch = [everyone[i] for i in mine]
        if not batch:
            return _nothing()
        mean = learner.meta_loss(
            encoder,
            head,
            [as_support(episode) for episode in batch],
            [episode.query for episode in batch],
            [torch.as_tensor(episode.query_targets) for episode in batch],
            {**options, "done": done, "seeds": seeds[list(mine)]},
        )
        return mean * (len(batch) / n)

    return loss


def _nothing() -> Tensor:
    """The part of a process that has no task in this meta-batch."""
    return torch.zeros((), requires_grad=True)


def _sinusoid(training: Training, rng: np.random.Generator) -> Episode:
    return sample_sinusoid(int(rng.integers(*training.k_shot, endpoint=True)), training.n_query, rng)


def _group(table: Table, training: Training, rng: np.random.Generator) -> Episode:
    return sample_group(table, int(rng.integers(*training.k_shot, endpoint=True)), training.n_query, rng)


def _episode(pool: Pool, training: Training, rng: np.random.Generator) -> Episode:
    episode = sample_episode(pool, _shape(training, rng), rng)
    if not training.warp:
        return episode
    support, query = (warp_inputs(inputs, training.warp, rng) for inputs in (episode.support, episode.query))
    return replace(episode, support=support, query=query)


def _shape(training: Training, rng: np.random.Generator) -> EpisodeShape:
    if training.n_way is None:
        raise Invalid("training on classes needs n_way")
    n_way, k_shot = (int(rng.integers(low, high, endpoint=True)) for low, high in (training.n_way, training.k_shot))
    return EpisodeShape(n_way, k_shot, training.n_query)
