"""Encoders by name."""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from kshot.contracts.checkpoints import EncoderSpec, InputSpec
from kshot.contracts.errors import Invalid
from kshot.encoders.base import Encoder
from kshot.encoders.conv4 import Conv4
from kshot.encoders.hierarchy import Hierarchy
from kshot.encoders.identity import Identity
from kshot.encoders.image import ImageEncoder
from kshot.encoders.mapped import Mapped
from kshot.encoders.mlp import Mlp
from kshot.encoders.pretrained import pretrained
from kshot.encoders.resnet12 import ResNet12
from kshot.encoders.text import TextEncoder

_INPUT_SPEC: TypeAdapter[InputSpec] = TypeAdapter(InputSpec)


def _mapped(spec: InputSpec, *, source: dict[str, Any], source_input: dict[str, Any], **options: Any) -> Encoder:
    """A mapped encoder with its source, which may be any encoder of this registry."""
    reads = _INPUT_SPEC.validate_python(source_input)
    return Mapped(spec, build_encoder(EncoderSpec.model_validate(source), reads), reads, **options)


ENCODERS: dict[str, tuple[str | None, Callable[..., Encoder]]] = {
    "conv4": ("image", Conv4),
    "hierarchy": ("vector", Hierarchy),
    "identity": ("vector", Identity),
    "image": ("image", ImageEncoder),
    "mapped": (None, _mapped),
    "mlp": ("vector", Mlp),
    "pretrained": (None, pretrained),
    "resnet12": ("image", ResNet12),
    "text": ("text", TextEncoder),
}
"""Name -> the modality it reads and its constructor, called with the input spec and the spec's options.

Modality None: the constructor refuses what it does not read."""


def build_encoder(spec: EncoderSpec, inputs: InputSpec) -> Encoder:
    """A fresh encoder in ``train()`` mode. Raises Invalid for an unknown name, modality or option."""
    if spec.name not in ENCODERS:
        raise Invalid(f"unknown encoder; known are {', '.join(ENCODERS)}")
    modality, constructor = ENCODERS[spec.name]
    if modality is not None and inputs.modality != modality:
        raise Invalid(f"encoder {spec.name} reads {modality} inputs, not {inputs.modality}")
    options: dict[str, Any] = dict(spec.options)
    try:
        return constructor(inputs, **options)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise Invalid(f"encoder {spec.name} does not take these options") from error
