"""Checkpoint <-> one safetensors buffer and a JSON manifest. No pickle, no code: names, shapes and numbers."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from kshot.contracts.checkpoints import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import unpack
from kshot.device import CPU
from kshot.encoders.base import Encoder
from kshot.encoders.registry import build_encoder

_ENCODER, _HEAD = "encoder.", "head."
_SIZED = frozenset({"conv4", "hierarchy", "mlp", "resnet12"})
"""Encoders as large as the manifest says, which may be far larger than the weights that came with it."""


@dataclass(frozen=True)
class Checkpoint:
    """A meta-trained model: its manifest, its encoder (``eval()`` mode), the learner's meta-learned tensors by name."""

    manifest: Manifest
    encoder: Encoder
    head: dict[str, Tensor]


def dump_checkpoint(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """(manifest as JSON, weights as safetensors). The manifest gains the sha256 of the weights.

    Raises Invalid where a tensor holds NaN or infinity.
    """
    state = checkpoint.encoder.state_dict()
    tensors = {_ENCODER + name: state[name] for name in sorted(checkpoint.encoder.stored_names())}
    tensors |= {_HEAD + name: tensor for name, tensor in checkpoint.head.items()}
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        _check_numbers(name, tensor)
    weights = save(stored)
    manifest = checkpoint.manifest.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    return manifest.model_dump_json(indent=2).encode() + b"\n", weights


def parse_checkpoint(manifest_json: bytes, weights: bytes, device: torch.device = CPU) -> Checkpoint:
    """The checkpoint of two buffers that :func:`dump_checkpoint` made, on ``device``.

    Raises Invalid where the weights are not those the manifest names, or where a tensor is missing, superfluous, of the
    wrong shape or dtype, or not finite.
    """
    manifest = parse_manifest(manifest_json)
    if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
        raise Invalid("the weights are not the ones the manifest names (sha256 differs)")
    tensors = {name: torch.tensor(array) for name, array in unpack(weights)[1].items()}
    for name, tensor in tensors.items():
        _check_numbers(name, tensor)
    stored = _below(_ENCODER, tensors)
    if manifest.encoder.name in _SIZED:
        with torch.device("meta"):  # which has no memory
            _check_shapes(build_encoder(manifest.encoder, manifest.input), stored)
    encoder = build_encoder(manifest.encoder, manifest.input)
    _check_shapes(encoder, stored)
    encoder.load_state_dict(stored, strict=False)
    head = {name: tensor.to(device) for name, tensor in _below(_HEAD, tensors).items()}
    stray = [name for name in tensors if not name.startswith((_ENCODER, _HEAD))]
    if stray:
        raise Invalid("the weights hold tensors that belong to neither encoder nor head")
    return Checkpoint(manifest, encoder.to(device).eval(), head)


def parse_manifest(manifest_json: bytes) -> Manifest:
    """A manifest from JSON. Raises Invalid where it is none."""
    try:
        return Manifest.model_validate_json(manifest_json)
    except ValidationError as error:
        raise Invalid("the manifest is not one of a kshot checkpoint") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder, without its weights."""
    return parse_manifest(_read(folder / MANIFEST_FILE))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as a folder; each file appears whole or not at all."""
    manifest, weights = dump_checkpoint(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((WEIGHTS_FILE, weights), (MANIFEST_FILE, manifest)):
        unfinished = folder / f".{name}.part"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


def load_checkpoint(folder: Path, device: torch.device = CPU) -> Checkpoint:
    """Read a checkpoint folder. Raises Invalid as :func:`parse_checkpoint` does, and where a file is missing."""
    return parse_checkpoint(_read(folder / MANIFEST_FILE), _read(folder / WEIGHTS_FILE), device)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"the checkpoint has no readable {file.name}") from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_numbers(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise Invalid(f"tensor {name} is not float32")
    if not bool(torch.isfinite(tensor).all()):
        raise Invalid(f"tensor {name} is not finite")


def _check_shapes(encoder: Encoder, tensors: dict[str, Tensor]) -> None:
    """The encoder's stored tensors must be exactly ``tensors``."""
    own = encoder.state_dict()
    expected = encoder.stored_names()
    if set(tensors) != expected:
        raise Invalid(f"the encoder's tensors differ from the manifest's encoder: {len(set(tensors) ^ expected)} names")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise Invalid(f"encoder tensor {name} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
