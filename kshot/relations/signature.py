"""What a checkpoint remembers of its meta-training data, to tell a support of that kind from a strange one.

An encoder spreads what it was trained on and crowds together what it was not: drawings lie close to one another for an
encoder of photographs, photographs for one of drawings. So the mean distance between the classes of a support, against
the usual one, tells the kind without a single label too many: it works with one example per class.
"""

import math

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.checkpoints import Signature
from kshot.encoders.base import Encoder
from kshot.episodes.pool import Pool, take
from kshot.learners.base import device_of
from kshot.learners.batching import embed

_CLASSES, _PER_CLASS = 100, 8
_LEAST = 1e-12


def sign(encoder: Encoder, pool: Pool, seed: int = 0) -> Signature:
    """The signature of an encoder, from classes like those it was trained on, but held out.

    At most 100 classes of at most 8 examples each, drawn by ``seed``.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(pool.classes))[:_CLASSES]
    rows = [rng.permutation(pool.rows[index])[:_PER_CLASS] for index in chosen]
    labels = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(own) for own in rows]))
    with torch.no_grad():
        (x,) = embed(encoder, [take(pool.inputs, np.concatenate(rows))], device_of(encoder, {}))
    return Signature(between=float(_squared_distances(x.cpu())[labels[:, None] != labels].mean()))


def strangeness(signature: Signature, x: Tensor, labels: Tensor) -> float:
    """|log of the mean squared distance between classes over the usual one|: 0 for a support of the usual kind.

    ``x``: embeddings (n, d). ``labels``: (n,), any number of classes; with fewer than two nothing is strange.
    """
    apart = labels[:, None] != labels
    if not bool(apart.any()):
        return 0.0
    found = float(_squared_distances(x)[apart].mean())
    return abs(math.log(max(found, _LEAST) / max(signature.between, _LEAST)))


def _squared_distances(x: Tensor) -> Tensor:
    return torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
