"""What a mapping is worth: against no mapping, against training from scratch, and against a closed-form head alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import Estimate, EvaluationRow
from kshot.contracts.wire import Array
from kshot.encoders.embedded import Embedded
from kshot.encoders.frozen import FrozenEncoder
from kshot.encoders.mapped import Mapped
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.learners.base import device_of
from kshot.metrics import mean_interval
from kshot.relations.transfer import episode_scores
from kshot.training.mapping import source_features
from kshot.training.precompute import embeddings_of

REPORT_FILE = "comparison.json"
MAPPING, IDENTITY, SCRATCH, RIDGE = "mapping", "identity", "from scratch", "ridge on source features"


@dataclass(frozen=True)
class Compared:
    """Accuracy of one way to use the target's training data. ``mapping_ahead``: mapping less this, episode by episode.

    ``identity``: the mapping as it began, the source's features centred on the target's data, by the mapping's learner;
    ``ridge on source features``: those features as they are, by a closed-form head. ``from scratch``: the teacher,
    trained on the same target data and nothing else.
    """

    how: str
    n_way: int
    k_shot: int
    accuracy: Estimate
    mapping_ahead: Estimate


def compare(
    checkpoint: Checkpoint, teacher: Checkpoint, pool: Pool, folder: Path, shape: EpisodeShape, count: int, seed: int
) -> list[Compared]:
    """All four on the same ``count`` episodes of held-out classes; the source's features are kept in ``folder``."""
    encoder = checkpoint.encoder
    assert isinstance(encoder, Mapped)
    device = device_of(encoder, checkpoint.head)
    features = torch.as_tensor(source_features(encoder, pool, folder).inputs, device=device)
    with torch.no_grad():
        begun = FrozenEncoder.tune(encoder, features)
        mapped, own = encoder.tune(features), embeddings_of(teacher, pool.inputs)
    chosen = list(islice(episodes(Pool(np.arange(len(pool)), pool.classes, pool.rows), shape, seed), count))
    raw, centred = (Checkpoint(checkpoint.manifest, Embedded(x).eval(), {}) for x in (features, begun))
    scores = {
        MAPPING: _scores(checkpoint, mapped, chosen),
        IDENTITY: episode_scores(centred, chosen),
        SCRATCH: _scores(teacher, own, chosen),
        RIDGE: episode_scores(raw, chosen, "ridge"),
    }
    return [
        Compared(how, shape.n_way, shape.k_shot, mean_interval(own), mean_interval(scores[MAPPING] - own))
        for how, own in scores.items()
    ]


def evaluation_rows(data: str, compared: Sequence[Compared], count: int) -> list[EvaluationRow]:
    """The mapping's own rows, for its manifest."""
    return [
        EvaluationRow(
            data=data,
            n_way=each.n_way,
            k_shot=each.k_shot,
            metric="accuracy",
            mean=each.accuracy.mean,
            interval=each.accuracy.interval,
            episodes=count,
        )
        for each in compared
        if each.how == MAPPING
    ]


def write_comparison(folder: Path, compared: Sequence[Compared]) -> None:
    """As JSON beside the checkpoint."""
    rows = [
        {**asdict(each), "accuracy": each.accuracy.model_dump(), "mapping_ahead": each.mapping_ahead.model_dump()}
        for each in compared
    ]
    (folder / REPORT_FILE).write_text(json.dumps(rows, indent=1) + "\n")


def _scores(checkpoint: Checkpoint, embeddings: torch.Tensor, chosen: Sequence[Episode]) -> Array:
    return episode_scores(Checkpoint(checkpoint.manifest, Embedded(embeddings).eval(), checkpoint.head), chosen)
