"""Adapted states in memory, bounded in bytes: on the device, and where that has a memory of its own, in the host's too.

A state never changes, so what is cached is never stale.
"""

import asyncio
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kshot.contracts.tasks import Label
from kshot.contracts.worker_stats import CacheCount
from kshot.learners.base import State
from workers.lru import ByteLru
from workers.steps import Steps
from workers.work import Adapted

StateKey = tuple[str, str]
"""(tenant, the task that made the state)."""

_ENTRY_BYTES, _TENSOR_BYTES, _COLUMN_BYTES = 1800, 900, 2000
"""What Python, torch and the allocator add to an entry, to each of its tensors, to each target.

Measured on 50,000 entries, then adjusted; tests/workers/test_states.py compares 20,000 with the memory that a process
has."""

_ALIGNED = 64
_SHARE_OF_GPU = 8


class States:
    """The states used last. ``budget``: bytes of host memory for them, all that they hold counted. A GPU gives
    an eighth of its own memory beside that, and what falls out there goes on in the host's."""

    def __init__(self, device: torch.device, budget: int) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        self._near: ByteLru[StateKey, Adapted] = ByteLru(_gpu_budget(device) if on_gpu else budget)
        self._far: ByteLru[StateKey, Adapted] | None = None if device.type == "cpu" else ByteLru(budget)
        self._moves = Steps()

    def get(self, key: StateKey) -> Adapted | None:
        """A state that is on the device; None otherwise."""
        return self._near.get(key)

    def look(self, key: StateKey) -> Adapted | None:
        """The same for one who missed it just now, and need not be counted again."""
        return self._near.peek(key)

    def put(self, key: StateKey, adapted: Adapted) -> None:
        """Keep a state that is on the device, but for its quality, which predictions do not need. Its tensors are kept
        as they are: whoever makes many gives them memory of their own (:func:`own_memory`), in a thread."""
        lean = replace(adapted, state=replace(adapted.state, quality=None, qualities=()))
        dropped = self._near.put(key, lean, held_bytes(lean))
        if self._far is not None and dropped:
            self._moves.start(self._move_down(dropped))

    def in_host(self, key: StateKey) -> Adapted | None:
        """A state that fell out of the device's memory and is still in the host's; to be moved with :func:`moved`."""
        return None if self._far is None else self._far.pop(key)

    def counted(self) -> list[CacheCount]:
        """How each tier does."""
        if self._far is None:
            return [self._near.counted("states", "host")]
        return [self._near.counted("states", "device"), self._far.counted("states", "host")]

    async def _move_down(self, dropped: Sequence[tuple[StateKey, Adapted]]) -> None:
        """In a thread: a copy from the device waits for what is computed there."""
        assert self._far is not None
        for key, adapted in await asyncio.to_thread(_all_in_host, dropped):
            self._far.put(key, adapted, held_bytes(adapted))


def own_memory(state: State) -> State:
    """The state without its gradients, in memory of its own: a view would keep the whole batch alive in the cache."""
    tensors = {name: tensor.detach() for name, tensor in state.tensors.items()}
    in_host = all(tensor.device.type == "cpu" for tensor in tensors.values())
    own = in_one_block(tensors) if in_host else {name: tensor.clone() for name, tensor in tensors.items()}
    return replace(state, tensors=own)


def in_one_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in one piece of memory: torch asks for aligned ones of its own, and when thousands of these come
    and go glibc leaves gaps between them, of up to half of what is held."""
    starts = [0, *itertools.accumulate(-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors.values())]
    block = torch.frombuffer(bytearray(starts[-1] + _ALIGNED), dtype=torch.uint8)
    first, placed = -block.data_ptr() % _ALIGNED, {}
    for start, (name, tensor) in zip(starts, tensors.items(), strict=False):
        own = block[first + start : first + start + tensor.nbytes]
        placed[name] = own.view(tensor.dtype).view(tensor.shape).copy_(tensor)
    return placed


def moved(adapted: Adapted, device: torch.device) -> Adapted:
    """The same state on another device."""
    tensors = {name: tensor.to(device) for name, tensor in adapted.state.tensors.items()}
    return replace(adapted, state=replace(adapted.state, tensors=tensors))


def held_bytes(adapted: Adapted) -> int:
    """What an entry takes of memory, tensors and all that is around them."""
    state, columns = adapted.state, adapted.columns
    labels = _label_bytes(adapted.classes) + sum(_label_bytes(column.classes) for column in columns)
    return _ENTRY_BYTES + _tensor_bytes(state) + labels + _COLUMN_BYTES * len(columns)


def _tensor_bytes(state: State) -> int:
    return sum(tensor.nbytes + _TENSOR_BYTES for tensor in state.tensors.values())


def _label_bytes(labels: Sequence[Label]) -> int:
    return sum(sys.getsizeof(label) + 8 for label in labels)


def _all_in_host(dropped: Sequence[tuple[StateKey, Adapted]]) -> list[tuple[StateKey, Adapted]]:
    return [(key, moved(adapted, torch.device("cpu"))) for key, adapted in dropped]


def _gpu_budget(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[1] // _SHARE_OF_GPU
