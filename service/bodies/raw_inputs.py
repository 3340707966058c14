"""Inputs and labels as a body brought them, before the checkpoint says what they mean."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from kshot.contracts.checkpoints import InputSpec
from kshot.contracts.wire import Array, Inputs
from kshot.inputs import check_tensor, decode_files, decode_values


@dataclass(frozen=True)
class Values:
    """JSON values."""

    items: Sequence[object]

    def __len__(self) -> int:
        return len(self.items)

    def decode(self, spec: InputSpec, param: str) -> Inputs:
        """Canonical inputs; see kshot.inputs."""
        return decode_values(self.items, spec, param)

    def update(self, digest: "hashlib._Hash") -> None:
        """Add the inputs as they came."""
        digest.update(json.dumps(self.items, sort_keys=True).encode())


@dataclass(frozen=True)
class Files:
    """Whole files."""

    items: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.items)

    def decode(self, spec: InputSpec, param: str) -> Inputs:
        """Canonical inputs; see kshot.inputs."""
        return decode_files(self.items, spec, param)

    def update(self, digest: "hashlib._Hash") -> None:
        """Add the inputs as they came."""
        for file in self.items:
            digest.update(hashlib.sha256(file).digest())


@dataclass(frozen=True)
class Tensor:
    """One tensor with a row per input."""

    array: Array

    def __len__(self) -> int:
        return len(self.array)

    def decode(self, spec: InputSpec, param: str) -> Inputs:
        """Canonical inputs; see kshot.inputs."""
        return check_tensor(self.array, spec, param)

    def update(self, digest: "hashlib._Hash") -> None:
        """Add the inputs as they came."""
        digest.update(f"{self.array.dtype}{self.array.shape}".encode())
        digest.update(self.array.tobytes())


RawInputs = Values | Files | Tensor


@dataclass(frozen=True)
class RawSupport:
    """Examples as sent. ``named``: the labels are names of multipart parts, so numbers come as strings."""

    inputs: RawInputs
    labels: Sequence[object]
    named: bool = False
