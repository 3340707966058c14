"""What gives the same embedding, or the same features, each time is run over a pool just once."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.methods import METHODS
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.embedded import Embedded
from kshot.encoders.frozen import FrozenEncoder
from kshot.episodes.pool import Pool, take
from kshot.learners.base import device_of
from kshot.learners.batching import embed

_BLOCK = 256


class Tuned(Encoder):
    """What a frozen encoder does after its backbone; the inputs are backbone features, float32 (n, width)."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_dim = encoder.out_dim

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return torch.as_tensor(inputs, device=device)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.tune(x)


def precompute(encoder: Encoder, pool: Pool) -> tuple[Encoder, Pool]:
    """The same embeddings without a frozen backbone: an encoder and a pool of features. Others come back as is.

    The features lie in the CPU's memory: all of a training pool may be more than a GPU holds, a step takes few.
    """
    if not isinstance(encoder, FrozenEncoder):
        return encoder, pool
    features = []
    with torch.no_grad():
        for start in range(0, len(pool), _BLOCK):
            block = take(pool.inputs, np.arange(start, min(start + _BLOCK, len(pool))))
            features.append(encoder.features(encoder.prepare(block, device_of(encoder, {}))).cpu())
    return Tuned(encoder), replace(pool, inputs=torch.cat(features).numpy())


def embeds_once(checkpoint: Checkpoint) -> bool:
    """Whether an input has one embedding, whatever the task: then a pool need be embedded a single time."""
    encoder, method = checkpoint.encoder, METHODS[checkpoint.manifest.learner.name]
    return not encoder.statistic_names and (method.any_encoder or encoder.frozen)


@torch.no_grad()
def embeddings_of(checkpoint: Checkpoint, inputs: Inputs) -> Tensor:
    """(n, out_dim), block by block."""
    encoder, device = checkpoint.encoder, device_of(checkpoint.encoder, checkpoint.head)
    blocks = [inputs[start : start + _BLOCK] for start in range(0, len(inputs), _BLOCK)]
    return torch.cat([embed(encoder, [block], device)[0] for block in blocks])


def embedded(checkpoint: Checkpoint, pool: Pool) -> tuple[Encoder, Pool]:
    """An encoder that knows the pool's embeddings, and a pool of row numbers for it. Where a task's embeddings are its
    own, both as they are."""
    if not embeds_once(checkpoint):
        return checkpoint.encoder, pool
    table = Embedded(embeddings_of(checkpoint, pool.inputs)).eval()
    return table, replace(pool, inputs=np.arange(len(pool)))
