"""Encoders and checkpoints in double precision, so that derivatives can be told from round-off."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import EncoderSpec, InputSpec, LearnerSpec, Lineage, Manifest
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder

torch.set_num_threads(1)


def in_double(encoder: Encoder) -> Encoder:
    """The same encoder, its parameters and what it reads in float64."""
    single = encoder.prepare

    def prepare(inputs: Inputs, device: torch.device) -> Tensor:
        return single(inputs, device).double()

    encoder.prepare = prepare  # type: ignore[method-assign]
    return encoder.double().eval()


def checkpoint_with(
    encoder: Encoder, head: Mapping[str, Tensor], learner: str, options: Mapping[str, Any], spec: InputSpec
) -> Checkpoint:
    """A checkpoint in memory, whose manifest carries the learner's options."""
    name = {"vector": "mlp", "image": "conv4"}[spec.modality]
    manifest = Manifest(
        name="double",
        description="in double precision",
        tasks=("classification", "regression"),
        input=spec,
        encoder=EncoderSpec(name=name),
        learner=LearnerSpec(name=learner, options=dict(options)),
        lineage=Lineage(command="none", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    return Checkpoint(manifest, encoder, dict(head))
