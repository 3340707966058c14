"""Whether the processor still computes. Importing this does not import torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class DeviceLost(RuntimeError):
    """The GPU's context broke. The process must end: a supervisor starts a new one, the leases bring the work back."""


def is_lost(device: "torch.device") -> bool:
    """Whether the GPU's context is broken for good (a fault inside a kernel): only a new process helps then."""
    if device.type != "cuda":
        return False
    import torch

    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False
