"""Adapted states as bytes: one safetensors buffer, for the object store."""

from typing import Any

import torch
from torch import Tensor

from kshot.contracts.tasks import Quality
from kshot.contracts.wire import Array, header_of, pack, unpack
from kshot.device import CPU
from kshot.learners.base import Column, State


def dump_state(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    header: dict[str, Any] = {"task": state.task, "n_way": state.n_way, "quality": _plain(state.quality)}
    if state.columns:
        header["columns"] = [{"kind": column.kind, "n_way": column.n_way} for column in state.columns]
        header["qualities"] = [_plain(quality) for quality in state.qualities]
    return pack(header, {name: state.tensors[name].cpu().numpy() for name in sorted(state.tensors)})


def load_state(buffer: bytes, device: torch.device = CPU) -> State:
    """The state :func:`dump_state` made a buffer of, tensors on ``device``. Raises Invalid for a broken buffer."""
    header, arrays = unpack(buffer)
    tensors = {name: _tensor(array).to(device) for name, array in arrays.items()}
    with header_of("a state"):
        return State(
            task=header["task"],
            n_way=header["n_way"],
            tensors=tensors,
            quality=_quality(header["quality"]),
            columns=tuple(Column(**column) for column in header.get("columns", [])),
            qualities=tuple(_quality(quality) for quality in header.get("qualities", [])),
        )


def _tensor(array: Array) -> Tensor:
    """Of the memory the array has, where it has memory of its own."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _plain(quality: Quality | None) -> dict[str, Any] | None:
    return None if quality is None else quality.model_dump(mode="json")


def _quality(plain: dict[str, Any] | None) -> Quality | None:
    return None if plain is None else Quality.model_validate(plain)
