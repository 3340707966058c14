"""How good a checkpoint is on held-out tasks: mean over episodes with a 95% interval."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.episodes.sampling import Episode
from kshot.learners.base import Output, Support
from kshot.learners.inner_loop import without_statistics
from kshot.learners.registry import get_learner
from kshot.metrics import summarise_classes, summarise_values

_TASKS_AT_ONCE = 16


def evaluate(
    checkpoint: Checkpoint,
    data: str,
    tasks: Iterator[Episode],
    count: int,
    options: LearnerOptions | None = None,
    transductive: bool = False,
) -> EvaluationRow:
    """Adapt to each of ``count`` (two or more) episodes and score its queries: accuracy, or mean squared error.

    ``transductive``: norms take the statistics of an episode's queries together, as published MAML does; never served,
    and only for encoders with ``statistic_names``. ``more`` of the row holds the other figures of
    :mod:`kshot.metrics`. ``data`` names the episodes. ``n_way`` of the row is None where they differ in it.
    Of episodes with a ``group`` the intervals are over groups; where all are of one they are over its episodes and say
    nothing about other tasks (``tasks`` of the row is 1 then).
    """
    chosen = list(islice(tasks, count))
    batches = [chosen[start : start + _TASKS_AT_ONCE] for start in range(0, count, _TASKS_AT_ONCE)]
    answered = [
        pair for batch in batches for pair in _answered(checkpoint, batch, options or LearnerOptions(), transductive)
    ]
    first = chosen[0]
    metric: Literal["accuracy", "mse"] = "accuracy" if first.task == "classification" else "mse"
    groups = [episode.group for episode in chosen if episode.group is not None]
    several = np.array(groups) if len(groups) == len(chosen) and len(set(groups)) > 1 else None
    figures = (summarise_classes if metric == "accuracy" else summarise_values)(answered, several)
    main = figures.pop(metric)
    return EvaluationRow(
        data=data,
        n_way=first.n_way if len({episode.n_way for episode in chosen}) == 1 else None,
        k_shot=len(first.support) // (first.n_way or 1),
        metric=metric,
        mean=main.mean,
        interval=main.interval,
        episodes=len(answered),
        tasks=len(set(groups)) or None,
        inductive=not transductive,
        more=figures,
    )


def as_support(episode: Episode) -> Support:
    """The support of an episode as a learner takes it."""
    return Support(episode.task, episode.support, torch.as_tensor(episode.support_targets), episode.n_way)


def _answered(
    checkpoint: Checkpoint, batch: list[Episode], options: LearnerOptions, transductive: bool
) -> list[tuple[Array, Array]]:
    """Of each episode (probabilities or values, truth), as the metrics take them."""
    learner = get_learner(options.learner or checkpoint.manifest.learner.name)
    states = learner.adapt_only(checkpoint, [as_support(episode) for episode in batch], options)
    if transductive:
        bare = [without_statistics(checkpoint.encoder, state.tensors) for state in states]
        states = [replace(state, tensors=tensors) for state, tensors in zip(states, bare, strict=True)]
    outputs = learner.predict(checkpoint, states, [episode.query for episode in batch])
    return [
        (_answer(output), np.asarray(episode.query_targets)) for episode, output in zip(batch, outputs, strict=True)
    ]


def _answer(output: Output) -> Array:
    answer = output.values if output.logits is None else output.logits.softmax(1)
    assert answer is not None
    return answer.detach().cpu().numpy()
