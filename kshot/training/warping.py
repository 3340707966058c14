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
    warped = warp(pictures, draw_maps(len(pictures), strength, rng))
    pixels: Inputs = warped.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return pixels


def draw_maps(n: int, strength: float, rng: np.random.Generator) -> Tensor:
    """Affine maps (n, 2, 3) of the plane, half of them random; ``strength`` 1 turns by at most 15 degrees.

    The others change nothing: those pictures stay as sharp as the ones asked about later.
    """
    strengths = strength * rng.integers(0, 2, n)

    def spread(most: float) -> Tensor:
        return torch.as_tensor(strengths * rng.uniform(-most, most, n), dtype=torch.float32)

    turn, shear = spread(_TURN), spread(_SHEAR)
    across, down = 1 + spread(_SCALE), 1 + spread(_SCALE)
    rows = [
        torch.stack([across * turn.cos(), -down * (turn.sin() + shear), spread(_SHIFT)], 1),
        torch.stack([across * turn.sin(), down * turn.cos(), spread(_SHIFT)], 1),
    ]
    return torch.stack(rows, 1)


def warp(pictures: Tensor, maps: Tensor) -> Tensor:
    """Float pictures (n, C, H, W), each moved by its map of (n, 2, 3). What moves in from outside is 0."""
    grid = torch.nn.functional.affine_grid(maps.to(pictures), list(pictures.shape), align_corners=False)
    warped = torch.nn.functional.grid_sample(pictures, grid, align_corners=False)
    return warped.contiguous(memory_format=torch.channels_last)  # twice as fast in what follows
