"""A long run that can stop at any step and continue as if it had not: everything the outer loop carries, on disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.contracts.errors import Invalid
from kshot.contracts.jobs import STATE_FILE
from kshot.contracts.recipe import Recipe
from kshot.contracts.wire import pack, unpack
from kshot.encoders.base import Encoder
from kshot.learners.base import device_of
from kshot.training.world import ALONE, World

_ENCODER, _HEAD, _OPTIMISER = "encoder.", "head.", "optimiser."
_GPU_RNG = "gpu_rng"


@dataclass
class Run:
    """What one outer loop moves. ``step``: steps done. ``seconds``: time spent, over all its sittings.

    ``total``: steps to do; None until a time budget is turned into steps.
    """

    encoder: Encoder
    head: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    total: int | None
    step: int = 0
    seconds: float = 0.0

    @property
    def device(self) -> torch.device:
        """What it computes on; it may go on on another one, where rounding differs."""
        return device_of(self.encoder, self.head)


def gpus(device: torch.device) -> list[torch.device]:
    """The GPU whose random state belongs to a run on ``device``; none on a CPU."""
    return [device] if device.type == "cuda" else []


def save_progress(folder: Path, recipe: Recipe, run: Run) -> None:
    """Write the run beside its checkpoint; the file appears whole or not at all."""
    header = {
        "recipe": fingerprint(recipe),
        "step": run.step,
        "total": run.total,
        "seconds": run.seconds,
        "rng": run.rng.bit_generator.state,
    }
    tensors = {_ENCODER + name: tensor for name, tensor in run.encoder.state_dict().items()}
    tensors |= {_HEAD + name: tensor for name, tensor in run.head.items()}
    for place, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{place}.{name}": torch.as_tensor(value) for name, value in state.items()}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    arrays["torch_rng"] = torch.get_rng_state().numpy()
    for gpu in gpus(run.device):
        arrays[_GPU_RNG] = torch.cuda.get_rng_state(gpu).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{STATE_FILE}.part"
    unfinished.write_bytes(pack(header, arrays))
    unfinished.replace(folder / STATE_FILE)


def load_progress(folder: Path, recipe: Recipe, run: Run, world: World = ALONE) -> bool:
    """Put a run back to where :func:`save_progress` left it; False, and nothing done, where there is no such run.

    The run of another recipe, or of an older version of this one, is not continued. In a larger ``world`` all take what
    the first process finds. Raises Invalid where the file is damaged.
    """
    file = folder / STATE_FILE
    found = world.first and file.is_file()
    content = world.from_first(file.read_bytes() or b"\0" if found else b"")  # an empty file is a damaged one
    if not content:
        return False
    try:
        header, arrays = unpack(content)
    except Invalid as error:  # not ignored: a long run may be behind it
        raise Invalid(f"{file.name} of this run is damaged; remove it to begin the run anew") from error
    if header["recipe"] != fingerprint(recipe):
        return False
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    run.encoder.load_state_dict(_below(_ENCODER, tensors))
    with torch.no_grad():
        for name, tensor in _below(_HEAD, tensors).items():
            run.head[name].copy_(tensor)
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in _below(_OPTIMISER, tensors).items():
        place, part = name.split(".", 1)
        state.setdefault(int(place), {})[part] = tensor
    run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": state})
    run.rng.bit_generator.state = header["rng"]
    torch.set_rng_state(tensors["torch_rng"])
    for gpu in gpus(run.device):
        if _GPU_RNG in tensors:  # else the run was saved on a CPU
            torch.cuda.set_rng_state(tensors[_GPU_RNG], gpu)
    run.step, run.total, run.seconds = header["step"], header.get("total", run.total), header["seconds"]
    return True


def drop_progress(folder: Path) -> None:
    """The run is complete: its checkpoint says everything."""
    (folder / STATE_FILE).unlink(missing_ok=True)


def fingerprint(recipe: Recipe) -> str:
    """Of what the weights depend on: how they are evaluated and described does not count."""
    meaning = recipe.model_dump_json(exclude={"evaluation", "description"})
    return hashlib.sha256(meaning.encode()).hexdigest()


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
