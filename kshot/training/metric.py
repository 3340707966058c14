"""The meta-loss of learners that work on embeddings: one pass of the encoder, every example in both roles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.recipe import Training
from kshot.encoders.base import Encoder
from kshot.encoders.embedded import Embedded
from kshot.episodes.pool import Pool, take
from kshot.episodes.sampling import EpisodeShape, draw_rows
from kshot.learners.base import Head, Learner, Support
from kshot.training.warping import warp


def folded_meta_loss(
    learner: Learner,
    encoder: Encoder,
    head: Head,
    pool: Pool,
    shape: EpisodeShape,
    rng: np.random.Generator,
    options: Mapping[str, Any],
    training: Training,
) -> Tensor:
    """The learner's meta-loss over the k_shot + n_query episodes that one draw of examples makes.

    Episode j takes examples j, j+1, ... (cyclic) of every class as its support and the rest as queries. The encoder is
    most of the cost, and it sees each example once.
    """
    per_class = shape.k_shot + shape.n_query
    drawn = draw_rows(pool, shape.n_way, per_class, rng)
    prepared = encoder.prepare(take(pool.inputs, drawn.reshape(-1)), torch.device("cpu"))
    if training.warp:
        prepared = warp(prepared, training.warp, rng)
    with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bfloat16"):
        embeddings = encoder(prepared)
    embedded = Embedded(embeddings.float())
    supports, queries, targets = [], [], []
    for fold in range(per_class):
        order = (np.arange(per_class) + fold) % per_class
        cells = np.arange(shape.n_way)[:, None] * per_class + order
        support, query = cells[:, : shape.k_shot], cells[:, shape.k_shot :]
        supports.append(
            Support("classification", support.reshape(-1), _classes(shape.n_way, shape.k_shot), shape.n_way)
        )
        queries.append(query.reshape(-1))
        targets.append(_classes(shape.n_way, shape.n_query))
    return learner.meta_loss(embedded, head, supports, queries, targets, options)


def _classes(n_way: int, per_class: int) -> Tensor:
    return torch.arange(n_way).repeat_interleave(per_class)
