"""The meta-loss of learners that work on embeddings: one pass of the encoder, every example in both roles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kshot.contracts.recipe import Training
from kshot.encoders.base import Encoder
from kshot.encoders.embedded import Embedded
from kshot.episodes.pool import Pool, Rows, take
from kshot.episodes.sampling import EpisodeShape, draw_rows
from kshot.learners.base import Head, Learner, Support, device_of
from kshot.training.warping import draw_maps, warp
from kshot.training.world import World


@dataclass(frozen=True)
class Drawn:
    """All that chance has to say about one draw. ``rows`` (n_way, per_class) of a pool, the first ``k_shot`` of each
    class the support of the first episode. ``maps``: by which its pictures are warped, None for not at all."""

    rows: Rows
    k_shot: int
    maps: Tensor | None


def draw(pool: Pool, shape: EpisodeShape, training: Training, rng: np.random.Generator) -> Drawn:
    """Draw examples, without looking at them: where others compute this draw, the generator is all we need of it."""
    rows = draw_rows(pool, shape.n_way, shape.k_shot + shape.n_query, rng)
    return Drawn(rows, shape.k_shot, draw_maps(rows.size, training.warp, rng) if training.warp else None)


def folded_meta_loss(
    learner: Learner,
    encoder: Encoder,
    head: Head,
    pool: Pool,
    drawn: Drawn,
    options: Mapping[str, Any],
    training: Training,
) -> Tensor:
    """The learner's meta-loss over the k_shot + n_query episodes that one draw of examples makes.

    Episode j takes examples j, j+1, ... (cyclic) of every class as its support and the rest as queries. The encoder is
    most of the cost, and it sees each example once.
    """
    (n_way, per_class), k_shot = drawn.rows.shape, drawn.k_shot
    device = device_of(encoder, head)
    prepared = encoder.prepare(take(pool.inputs, drawn.rows.reshape(-1)), device)
    if drawn.maps is not None:
        prepared = warp(prepared, drawn.maps)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        embeddings = encoder(prepared)
    embedded = Embedded(embeddings.float())
    supports, queries, targets = [], [], []
    for fold in range(per_class):
        order = (np.arange(per_class) + fold) % per_class
        cells = np.arange(n_way)[:, None] * per_class + order
        support, query = cells[:, :k_shot], cells[:, k_shot:]
        supports.append(Support("classification", support.reshape(-1), _classes(n_way, k_shot, device), n_way))
        queries.append(query.reshape(-1))
        targets.append(_classes(n_way, per_class - k_shot, device))
    return learner.meta_loss(embedded, head, supports, queries, targets, options)


class BatchStatistics:
    """The running statistics of an encoder's batch norms over the draws of one step.

    They become the mean of what each draw alone would make of them, wherever it is computed and in whatever order.
    """

    def __init__(self, encoder: Encoder) -> None:
        norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        found = (buffer for norm in norms for buffer in (norm.running_mean, norm.running_var))
        # .data: the graphs of the draws hold the buffers, but none of their gradients reads them in train() mode.
        self._buffers = [buffer.data for buffer in found if buffer is not None]
        self._start = [buffer.clone() for buffer in self._buffers]
        self._moved = [torch.zeros_like(buffer) for buffer in self._buffers]

    def collect(self) -> None:
        """A draw has passed: note how far it moved the statistics, and put them back for the next one."""
        for buffer, start, moved in zip(self._buffers, self._start, self._moved, strict=True):
            moved.add_(buffer - start)
            buffer.copy_(start)

    def settle(self, draws: int, world: World) -> None:
        """All ``draws`` of the step have passed, in this process and the others."""
        if self._buffers:
            for buffer, moved in zip(self._buffers, world.total(self._moved), strict=True):
                buffer.add_(moved / draws)


def _classes(n_way: int, per_class: int, device: torch.device) -> Tensor:
    return torch.arange(n_way, device=device).repeat_interleave(per_class)
