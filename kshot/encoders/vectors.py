"""Canonical vectors -> tensors."""

import torch
from torch import Tensor

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs

_ROUND_OFF = 1e-6


def vector_tensor(inputs: Inputs, spec: VectorInput, device: torch.device) -> Tensor:
    """float32 (n, width) -> the same as a tensor. Raises Invalid for another width than the spec names."""
    if isinstance(inputs, list) or inputs.ndim != 2:
        raise Invalid("expected vectors, one row per input")
    if spec.width is not None and inputs.shape[1] != spec.width:
        raise Invalid(f"expected vectors of width {spec.width}, not {inputs.shape[1]}")
    return torch.tensor(inputs, dtype=torch.float32, device=device)


def column_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (width) of the columns of x (n, width); 1 for one that differs by round-off alone."""
    centre, spread = x.double().mean(0), x.double().std(0, correction=0)
    return centre, torch.where(spread > _ROUND_OFF * centre.abs(), spread, 1.0)
