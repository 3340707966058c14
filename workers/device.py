"""Which processor computes, and whether it still does. Importing this does not import torch."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


class DeviceLost(RuntimeError):
    """The GPU's context broke. The process must end: a supervisor starts a new one, the leases bring the work back."""


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> "torch.device":
    """``auto`` is the GPU where there is one. Raises RuntimeError where ``cuda`` is wanted and absent.

    TF32 is switched off: with its 10 bits of mantissa, what a GPU answers would depend on what shares the batch.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise RuntimeError("KSHOT_DEVICE=cuda, but torch sees no GPU; set KSHOT_DEVICE=auto or cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


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
