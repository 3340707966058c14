"""Which processor computes: the one place that decides it. Everything else follows the tensors of its model."""

import argparse
import os

import torch

from kshot.contracts.errors import Invalid, Unavailable

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda")


def choose_device(wanted: str) -> torch.device:
    """One of ``DEVICES``; ``auto`` is the GPU where there is one, or one for each process that ``torchrun`` started.

    Of several such processes each takes its own. Raises Invalid for another word, Unavailable where ``cuda`` is wanted
    and there are too few.

    TF32 is switched off: with its 10 bits of mantissa, what a GPU answers would depend on what shares the batch. So are
    convolutions that add up in whatever order their threads arrive: the same call gives the same bytes.
    """
    if wanted not in DEVICES:
        raise Invalid(f"KSHOT_DEVICE={wanted} is none of {', '.join(DEVICES)}")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    available = torch.cuda.is_available() and torch.cuda.device_count() >= processes
    if wanted == "cuda" and not available:
        few = "no GPU" if processes == 1 else f"fewer than {processes} GPUs, one for each process"
        raise Unavailable(f"KSHOT_DEVICE=cuda, but torch sees {few}; set KSHOT_DEVICE=auto or cpu")
    if not available or wanted == "cpu":
        return CPU
    return torch.device("cuda" if processes == 1 else f"cuda:{os.environ['LOCAL_RANK']}")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``, for :func:`choose_device`; without it ``KSHOT_DEVICE`` says, or it is the CPU."""
    default = os.environ.get("KSHOT_DEVICE") or "cpu"
    parser.add_argument("--device", choices=DEVICES, default=default, help=f"what computes (default: {default})")
