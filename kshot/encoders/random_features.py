"""A Gaussian kernel as an explicit map: structured orthogonal random features (Yu et al., NeurIPS 2016).

A linear head on these sees a text close to one example of a class as of that class, though the class has several
clusters; that is worth most with many classes. The directions come from a hash, so they are the same on any machine.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

_HADAMARDS = 3


class RandomFeatures(nn.Module):
    """Unit vectors x (n, width) -> (n, width + 2 * count) of length 1.

    z(x) . z(y) is about (1 - share) x . y + share * exp(-|x - y|^2 * sharpness / 2). ``count``: a multiple of the
    width, itself a power of two; the error of the kernel falls with its root.
    """

    directions: Tensor

    def __init__(self, width: int, count: int, share: float = 0.7, sharpness: float = 2.0) -> None:
        super().__init__()
        self.share = share
        directions = torch.from_numpy(_orthogonal(width, count)) * math.sqrt(width * sharpness)
        self.register_buffer("directions", directions, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        angles = x @ self.directions.T
        waves = torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(angles.shape[1])
        return torch.cat([x * math.sqrt(1 - self.share), waves * math.sqrt(self.share)], dim=1)


def _orthogonal(width: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(count, width): blocks H D1 H D2 H D3, with H the normalised Hadamard matrix and D random signs."""
    if width & (width - 1) or count % width:
        raise ValueError("random features need a width that is a power of two, and a multiple of it as their count")
    blocks = count // width
    stream = hashlib.shake_256(b"kshot random features 1").digest(blocks * _HADAMARDS * width // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(blocks, _HADAMARDS, width) * 2.0 - 1
    hadamard = np.ones((1, 1))
    while len(hadamard) < width:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]]) / math.sqrt(2)
    made = []
    for block in signs:
        directions = np.eye(width)
        for row in block:
            directions = directions @ hadamard * row
        made.append(directions)
    return np.concatenate(made).astype(np.float32)
