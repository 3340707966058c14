"""kshot's checkpoints for the tasks of a family: what is measured is what is served."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import (
    EncoderSpec,
    ImageInput,
    InputSpec,
    LearnerSpec,
    Lineage,
    Manifest,
    TaskKind,
    VectorInput,
)
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.registry import build_encoder
from kshot.learners.base import Support

_PICTURES = ImageInput(height=28, width=28, channels=1)
_OPTIONS = ("inner_steps", "inner_lr", "precision")


def encoder_of(problem: dict[str, Any]) -> Encoder:
    """A fresh encoder that suits ``problem``, in ``train()`` mode."""
    return build_encoder(*_specs(problem))


def _specs(problem: dict[str, Any]) -> tuple[EncoderSpec, InputSpec]:
    if problem["kind"] == "sinusoids":
        return EncoderSpec(name="mlp", options={"hidden": [40, 40]}), VectorInput(width=1)
    if problem["kind"] == "vectors":
        return EncoderSpec(name="identity"), VectorInput(width=problem["width"])
    # A gradient learner takes the statistics of a batch from the task's support, a metric learner from its draw.
    norm = "task" if problem["kind"] == "pictures" and problem["norm"] == "batch" else problem["norm"]
    return EncoderSpec(name="conv4", options={"pooling": problem["pooling"], "norm": norm}), _PICTURES


def checkpoint_of(problem: dict[str, Any], settings: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """The weights of ``tensors`` as a checkpoint; for ``head`` "chosen" without what the learner would meta-learn."""
    encoder, reads = _specs(problem)
    built = build_encoder(encoder, reads).eval()
    own = {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith("encoder.")}
    built.load_state_dict(own, strict=False)
    head = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
    head = {} if settings.get("head") == "chosen" else head
    manifest = Manifest(
        name="measured",
        description="made by benchmarks.peers",
        tasks=(_kind(problem),),
        input=reads,
        encoder=encoder,
        learner=LearnerSpec(name=settings["learner"], options={n: settings[n] for n in _OPTIONS if n in settings}),
        lineage=Lineage(command="benchmarks.peers", code_version="0", created_at=datetime.now(UTC)),
        weights_sha256="",
    )
    return Checkpoint(manifest, built, head)


def in_float32(checkpoint: Checkpoint) -> Checkpoint:
    """The same without a precision of its own."""
    learner = checkpoint.manifest.learner
    options = {name: value for name, value in learner.options.items() if name != "precision"}
    manifest = checkpoint.manifest.model_copy(update={"learner": LearnerSpec(name=learner.name, options=options)})
    return replace(checkpoint, manifest=manifest)


def supports_of(problem: dict[str, Any], tensors: dict[str, Tensor], tasks: int) -> list[Support]:
    """The first ``tasks`` supports."""
    task, x = _kind(problem), inputs_of(tensors["support_x"], tasks)
    n_way = None if task == "regression" else int(tensors["support_y"].max()) + 1
    return [Support(task, x[i], tensors["support_y"][i], n_way) for i in range(tasks)]


def inputs_of(stacked: Tensor, tasks: int) -> list[Inputs]:
    """The inputs of the first ``tasks`` tasks, as the service hands them to a learner."""
    return [torch.clone(block).numpy() for block in stacked[:tasks]]


def _kind(problem: dict[str, Any]) -> TaskKind:
    return "regression" if problem["kind"] == "sinusoids" else "classification"
