"""How well each checkpoint does on each data set: the measured transfer matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.episodes.sampling import Episode
from kshot.learners.base import Support
from kshot.learners.registry import get_learner
from kshot.metrics import class_scores, mean_interval, value_scores

_TASKS_AT_ONCE = 16


@dataclass(frozen=True)
class Transfer:
    """One cell: mean over episodes and half its 95% interval; accuracy, or mean squared error."""

    checkpoint: str
    data: str
    mean: float
    interval: float
    episodes: int


def transfer_matrix(checkpoints: Sequence[Checkpoint], data: Mapping[str, Sequence[Episode]]) -> list[Transfer]:
    """Every checkpoint, adapting by its own learner, on the episodes of every data set. At least two of each.

    The episodes are in the canonical form that all these checkpoints take.
    """
    cells = []
    for checkpoint in checkpoints:
        for name, chosen in data.items():
            scores = episode_scores(checkpoint, chosen)
            found = mean_interval(scores)
            cells.append(Transfer(checkpoint.manifest.name, name, found.mean, found.interval, len(scores)))
    return cells


def episode_scores(checkpoint: Checkpoint, chosen: Sequence[Episode], learner: str | None = None) -> Array:
    """The score (n,) of each episode: accuracy, or mean squared error; by the checkpoint's own learner or another."""
    how = get_learner(learner or checkpoint.manifest.learner.name)
    scores: list[float] = []
    for start in range(0, len(chosen), _TASKS_AT_ONCE):
        batch = chosen[start : start + _TASKS_AT_ONCE]
        supports = [Support(e.task, e.support, torch.as_tensor(e.support_targets), e.n_way) for e in batch]
        states = how.adapt_only(checkpoint, supports, LearnerOptions())
        outputs = how.predict(checkpoint, states, [episode.query for episode in batch])
        for episode, output in zip(batch, outputs, strict=True):
            truth = np.asarray(episode.query_targets)
            if output.logits is not None:
                scores.append(class_scores(output.logits.argmax(1).cpu().numpy(), truth).accuracy)
            elif output.values is not None:
                scores.append(value_scores(output.values.cpu().numpy(), truth).mse)
    return np.asarray(scores)
