"""Adapted states as bytes: one safetensors buffer, for the object store."""

from typing import Any

import torch

from kshot.contracts.tasks import Quality
from kshot.contracts.wire import pack, unpack
from kshot.learners.base import State


def dump_state(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    quality = None if state.quality is None else state.quality.model_dump(mode="json")
    header: dict[str, Any] = {"task": state.task, "n_way": state.n_way, "quality": quality}
    return pack(header, {name: state.tensors[name].cpu().numpy() for name in sorted(state.tensors)})


def load_state(buffer: bytes, device: torch.device | str = "cpu") -> State:
    """The state :func:`dump_state` made a buffer of, tensors on ``device``. Raises Invalid for a broken buffer."""
    header, arrays = unpack(buffer)
    quality = None if header["quality"] is None else Quality.model_validate(header["quality"])
    tensors = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    return State(header["task"], header["n_way"], tensors, quality)
