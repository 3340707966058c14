"""The processes that train one model together, and what they tell each other: sums, flags, the first one's state.

Each meta-batch is shared: every process draws all of it with the same generator and computes its own part. A loss and
its gradient are sums over the processes, of parts that are weighted by the whole meta-batch (synchronous data-parallel
descent). So the random state of any process is everyone's, and the size of the world changes no result but by rounding.

Started by ``torchrun`` (docs/how-to/several-processes.md); a process by itself is a world of one, and nothing is sent.
"""

import ctypes
import hashlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import torch
import torch.distributed as dist
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.device import CPU

OUTCOME = "KSHOT_OUTCOME"
"""The variable that names the file where the first process leaves its exit code."""

_PATIENCE = timedelta(minutes=10)  # the death of a process is noticed at once, that of a whole host only so
_LOOK_EVERY = 1.0  # seconds
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class World:
    """``rank`` of ``size`` processes. ``device``: what this one computes on, where what is sent must lie, too.

    As a context, it is left at the end.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this is the process that saves, reports and evaluates."""
        return self.rank == 0

    def mine(self, n: int) -> range:
        """Which of n things this process computes."""
        return range(self.rank, n, self.size)

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each tensor over the processes, the same bytes in all of them; without a gradient."""
        if self.size == 1:
            return [tensor.detach() for tensor in tensors]
        flat = torch.cat([tensor.detach().flatten().to(self.device) for tensor in tensors])
        dist.all_reduce(flat)
        parts: tuple[Tensor, ...] = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(own.shape).to(own) for part, own in zip(parts, tensors, strict=True)]

    def sum_gradients(self, parameters: Sequence[Tensor], value: Tensor) -> Tensor:
        """Make each parameter's gradient the sum over the processes, None where all have none; the sum of ``value``."""
        if self.size == 1:
            return value.detach()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        given = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        *sums, givers, total = self.total([*gradients, given, value])
        for parameter, gradient, givers_of_it in zip(parameters, sums, givers, strict=True):
            parameter.grad = gradient if givers_of_it > 0 else None
        return total

    def numbers_of_first(self, *numbers: float) -> list[float]:
        """The numbers that the first process gives, in every process."""
        if self.size == 1:
            return list(numbers)
        sent = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.broadcast(sent, 0)
        found: list[float] = sent.tolist()
        return found

    def from_first(self, content: bytes) -> bytes:
        """What the first process says, in every process; the others' own ``content`` is ignored."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=self.device)
        dist.broadcast(length, 0)
        if self.first:
            sent = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8).to(self.device)
        else:
            sent = torch.zeros(max(1, int(length)), dtype=torch.uint8, device=self.device)
        dist.broadcast(sent, 0)
        return sent.cpu().numpy().tobytes()[: int(length)]

    def check_alike(self, meaning: str) -> None:
        """Raises Invalid, in every process, where one was started with another recipe or other data."""
        if self.size == 1:
            return
        own = torch.frombuffer(bytearray(hashlib.sha256(meaning.encode()).digest()), dtype=torch.uint8).to(self.device)
        found = [torch.zeros_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        if any(not bool((digest == found[0]).all()) for digest in found):
            raise Invalid("the processes do not have the same recipe and data: copy both to every host")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.size > 1:
            dist.destroy_process_group()


ALONE = World()


def leave(code: int) -> NoReturn:
    """End this process for good, with an exit code.

    Under ``torchrun`` that code is 0, since it would start again what ends with another; :mod:`kshot.training.ranks`
    finds the first process's code in a file.
    """
    outcome = os.environ.get(OUTCOME)
    if outcome and os.environ.get("RANK") == "0":
        Path(outcome).write_text(str(code))
    sys.exit(0 if _under_torchrun() else code)


def join_world(device: torch.device = CPU) -> World:
    """Meet the other processes that ``torchrun`` started, over gloo, or NCCL where ``device`` is a GPU.

    Reads torchrun's environment; without it this process is the world.
    """
    if _under_torchrun():
        end_with_parent()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(device=device)
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())  # else it listens where the host's name leads
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    return World(dist.get_rank(), dist.get_world_size(), device)


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@cache
def end_with_parent() -> None:
    """A process whose agent or trainer is gone must not go on: others may have been started in its place. Asking twice
    is asking once.

    Linux kills it at once, even one that hangs, or is stopped. What looks after it elsewhere is a thread.
    """
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
