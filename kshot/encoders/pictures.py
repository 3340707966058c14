"""Canonical pictures -> normalised tensors."""

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs


def picture_tensor(inputs: Inputs, spec: ImageInput, device: torch.device) -> Tensor:
    """uint8 (n, H, W, C) -> float32 (n, C, H, W), ``(x / 255 - mean) / std`` per channel, channels last in memory.

    Raises Invalid where the pictures are not of the size the spec names.
    """
    expected = (spec.height, spec.width, spec.channels)
    if isinstance(inputs, list) or inputs.dtype != np.uint8 or inputs.shape[1:] != expected:
        raise Invalid(f"expected pictures of shape {expected}, uint8")
    # Channels last stays the memory layout after the permutation, and is twice as fast for small convolutions.
    x = torch.tensor(np.ascontiguousarray(inputs), device=device).permute(0, 3, 1, 2).float()
    mean = torch.tensor(spec.mean, device=device)[:, None, None]
    std = torch.tensor(spec.std, device=device)[:, None, None]
    return x.div_(255).sub_(mean).div_(std)
