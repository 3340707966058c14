"""Pictures turned, scaled, sheared and moved a little, each by itself: more drawings from the same drawers."""

import math

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs

_TURN = math.pi / 12
_SHEAR, _SCALE, _SHIFT = 0.2, 0.15, 0.12  # shift: of half the picture's side


def warp_inputs(inputs: Inputs, strength: float, rng: np.random.Generator) -> Inputs:
    """Canonical pictures, uint8 (n, H, W, C), warped as :func:`warp` does. Raises Invalid for other inputs."""
    if isinstance(inputs, list) or inputs.dtype != np.uint8 or inputs.ndim != 4:
        raise Invalid("only pictures can be warped")
    pictures = torch.tensor(np.ascontiguousarray(inputs)).permute(0, 3, 1, 2).float()
    warped: Inputs = warp(pictures, strength, rng).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return warped


def warp(pictures: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """(n, C, H, W) -> the same shape, half of them by a random affine map each; ``strength`` 1 is at most 15 degrees.

    The others stay as sharp as the pictures asked about later. What moves in from outside is 0.
    """
    n = len(pictures)
    strengths = strength * rng.integers(0, 2, n)

    def spread(most: float) -> Tensor:
        return torch.as_tensor(strengths * rng.uniform(-most, most, n), dtype=pictures.dtype)

    turn, shear = spread(_TURN), spread(_SHEAR)
    across, down = 1 + spread(_SCALE), 1 + spread(_SCALE)
    rows = [
        torch.stack([across * turn.cos(), -down * (turn.sin() + shear), spread(_SHIFT)], 1),
        torch.stack([across * turn.sin(), down * turn.cos(), spread(_SHIFT)], 1),
    ]
    maps = torch.stack(rows, 1).to(pictures.device)
    grid = torch.nn.functional.affine_grid(maps, list(pictures.shape), align_corners=False)
    warped = torch.nn.functional.grid_sample(pictures, grid, align_corners=False)
    return warped.contiguous(memory_format=torch.channels_last)  # twice as fast in what follows
