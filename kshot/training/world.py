"""The processes that train one model together, and what they tell each other: sums, flags, the first one's state.

Each meta-batch is shared: every process draws all of it with the same generator and computes its own part. A loss and
its gradient are sums over the processes, of parts that are weighted by the whole meta-batch (synchronous data-parallel
descent). So the random state of any process is everyone's, and the size of the world changes no result but by rounding.

Started by ``torchrun`` (docs/distributed.md); a process by itself is a world of one, and nothing is sent.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from kshot.contracts.errors import Invalid

_PATIENCE = timedelta(minutes=10)  # the death of a process is noticed at once, that of a whole host only so


@dataclass(frozen=True)
class World:
    """``rank`` of ``size`` processes. ``device``: where what is sent must lie. As a context, it is left at the end."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

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
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors]).to(self.device)
        dist.all_reduce(flat)
        parts: tuple[Tensor, ...] = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(own.shape).to(own) for part, own in zip(parts, tensors, strict=True)]

    def sum_gradients(self, parameters: Sequence[Tensor], value: Tensor) -> Tensor:
        """Make each parameter's gradient the sum over the processes, None where all have none; the sum of ``value``."""
        if self.size == 1:
            return value.detach()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        given = torch.tensor([float(p.grad is not None) for p in parameters])
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


def under_torchrun() -> bool:
    """Whether ``torchrun`` started this process, and would start it again if it failed."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def join_world(device: str = "cpu") -> World:
    """Meet the other processes that ``torchrun`` started, over gloo, or NCCL where ``device`` is a GPU's.

    Reads torchrun's environment; without it this process is the world.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    return World(dist.get_rank(), dist.get_world_size(), device)
