"""The meta-loss of learners that work on embeddings: one pass of the encoder, every example in both roles."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.frozen import FrozenEncoder
from kshot.episodes.pool import Pool, take
from kshot.episodes.sampling import EpisodeShape, draw_rows
from kshot.learners.base import Head, Learner, Support


_BLOCK = 512


class Embedded(Encoder):
    """Embeddings made already; an "input" is the number of its row."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.out_dim = embeddings.shape[1]

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return torch.as_tensor(inputs, device=device)

    def forward(self, x: Tensor) -> Tensor:
        return self.embeddings[x]


Embed = Callable[[Inputs], Tensor]


def embedder(encoder: Encoder, pool: Pool, precision: str) -> tuple[Pool, Embed]:
    """What to draw from, and how to embed what was drawn: the backbone of a frozen encoder runs over the pool just once."""
    cpu = torch.device("cpu")
    if isinstance(encoder, FrozenEncoder):
        blocks = [take(pool.inputs, np.arange(at, min(at + _BLOCK, len(pool)))) for at in range(0, len(pool), _BLOCK)]
        with torch.no_grad():
            features = torch.cat([encoder.features(encoder.prepare(block, cpu)) for block in blocks])
        return Pool(features.numpy(), pool.classes, pool.rows), lambda rows: encoder.tune(torch.as_tensor(rows))

    def embed(inputs: Inputs) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return encoder.embed(inputs, cpu).float()

    return pool, embed


def folded_meta_loss(
    learner: Learner,
    embed: Embed,
    head: Head,
    pool: Pool,
    shape: EpisodeShape,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Tensor:
    """The learner's meta-loss over the k_shot + n_query episodes that one draw of examples makes.

    Episode j takes examples j, j+1, ... (cyclic) of every class as its support and the rest as queries. The encoder is
    most of the cost, and it sees each example once.
    """
    per_class = shape.k_shot + shape.n_query
    drawn = draw_rows(pool, shape.n_way, per_class, rng)
    embedded = Embedded(embed(take(pool.inputs, drawn.reshape(-1))))
    supports, queries, targets = [], [], []
    for fold in range(per_class):
        order = (np.arange(per_class) + fold) % per_class
        cells = np.arange(shape.n_way)[:, None] * per_class + order
        support, query = cells[:, : shape.k_shot], cells[:, shape.k_shot :]
        supports.append(Support("classification", support.reshape(-1), _classes(shape.n_way, shape.k_shot), shape.n_way))
        queries.append(query.reshape(-1))
        targets.append(_classes(shape.n_way, shape.n_query))
    return learner.meta_loss(embedded, head, supports, queries, targets, options)


def _classes(n_way: int, per_class: int) -> Tensor:
    return torch.arange(n_way).repeat_interleave(per_class)
