"""Canonical vectors -> tensors."""

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs

_ROUND_OFF = 1e-6


def vector_tensor(inputs: Inputs, spec: VectorInput, device: torch.device) -> Tensor:
    """float32 (n, width) -> the same as a tensor, which may share its memory with what came in, so it must not be
    written to. Raises Invalid for another width than the spec names."""
    if isinstance(inputs, list) or inputs.ndim != 2:
        raise Invalid("expected vectors, one row per input")
    if spec.width is not None and inputs.shape[1] != spec.width:
        raise Invalid(f"expected vectors of width {spec.width}, not {inputs.shape[1]}")
    array = np.ascontiguousarray(inputs, dtype=np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def column_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (width) of the columns of x (n, width); 1 for one that differs by round-off alone."""
    centre, spread = x.double().mean(0), x.double().std(0, correction=0)
    return centre, torch.where(spread > _ROUND_OFF * centre.abs(), spread, 1.0)
