"""How good a checkpoint is on held-out tasks: mean over episodes with a 95% interval."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.sampling import Episode
from kshot.learners.base import Output, Support
from kshot.learners.registry import get_learner

_TASKS_AT_ONCE = 16


def evaluate(
    checkpoint: Checkpoint, data: str, tasks: Iterator[Episode], count: int, options: LearnerOptions | None = None
) -> EvaluationRow:
    """Adapt to each of ``count`` episodes and score its queries: accuracy in [0, 1], or mean squared error.

    The interval is half the width of the 95% one, 1.96 standard errors over episodes. ``data`` names the episodes.
    """
    chosen = list(islice(tasks, count))
    batches = [chosen[start : start + _TASKS_AT_ONCE] for start in range(0, count, _TASKS_AT_ONCE)]
    scores = [score for batch in batches for score in _scores(checkpoint, batch, options or LearnerOptions())]
    first = chosen[0]
    return EvaluationRow(
        data=data,
        n_way=first.n_way,
        k_shot=len(first.support) // (first.n_way or 1),
        metric="accuracy" if first.task == "classification" else "mse",
        mean=float(np.mean(scores)),
        interval=float(1.96 * np.std(scores, ddof=1) / np.sqrt(len(scores))),
        episodes=len(scores),
    )


def as_support(episode: Episode) -> Support:
    """The support of an episode as a learner takes it."""
    return Support(episode.task, episode.support, torch.as_tensor(episode.support_targets), episode.n_way)


def _scores(checkpoint: Checkpoint, batch: list[Episode], options: LearnerOptions) -> list[float]:
    learner = get_learner(options.learner or checkpoint.manifest.learner.name)
    states = learner.adapt(checkpoint, [as_support(episode) for episode in batch], options)
    outputs = learner.predict(checkpoint, states, [episode.query for episode in batch])
    return [_score(episode, output) for episode, output in zip(batch, outputs, strict=True)]


def _score(episode: Episode, output: Output) -> float:
    truth = torch.as_tensor(episode.query_targets)
    if output.logits is not None:
        return float((output.logits.argmax(1).cpu() == truth).float().mean())
    assert output.values is not None
    return float((output.values.cpu() - truth).square().mean())
