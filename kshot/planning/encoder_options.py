"""What each encoder takes, for processes that must not import torch. A test compares it with the encoders."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, InputSpec, Stored, VectorInput
from kshot.contracts.errors import Invalid

Flag = Annotated[bool, Field(strict=True)]
Width = Annotated[int, Field(strict=True, ge=1, le=4096)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=12)]

_HALVINGS = 4  # of conv4
_NORM_GROUPS = 8
_SMALLEST_PHOTO = 32


class Conv4Options(Stored):
    """Of :class:`kshot.encoders.conv4.Conv4`."""

    channels: Width = 64
    pooling: Literal["max", "stride"] = "max"
    norm: Literal["batch", "group", "affine", "task"] = "batch"


class ResNet12Options(Stored):
    """Of :class:`kshot.encoders.resnet12.ResNet12`."""

    widths: Widths = (64, 160, 320, 640)
    norm: Literal["batch", "group"] = "batch"


class MlpOptions(Stored):
    """Of :class:`kshot.encoders.mlp.Mlp`."""

    hidden: Widths = (40, 40)
    standardised: Flag = False
    layer_norm: Flag = False


class HierarchyOptions(Stored):
    """Of :class:`kshot.encoders.hierarchy.Hierarchy`."""

    levels: Annotated[tuple[Widths, ...], Field(min_length=1, max_length=12)] = ((64,),)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    standardised: Flag = False


class TextOptions(Stored):
    """Of :class:`kshot.encoders.text.TextEncoder`."""

    random_features: Annotated[int, Field(strict=True, ge=0, le=8192, multiple_of=256)] = 0


def _below(path: str) -> str:
    """The path of a folder below that of all models; where that is only the trainer's machine knows."""
    if path.startswith("/") or ".." in path.split("/"):
        raise PydanticCustomError("path", "must be relative to the folder of all pretrained models, and stay below it")
    return path


class PretrainedOptions(Stored):
    """Of :func:`kshot.encoders.pretrained.pretrained`."""

    path: Annotated[str, Field(strict=True, min_length=1, max_length=500), AfterValidator(_below)]
    sha256: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]


class MappedOptions(Stored):
    """Of :class:`kshot.encoders.mapped.Mapped`, but for its source, which is the checkpoint it begins at."""

    hidden: Width = 256
    width: Width | None = None


class NoOptions(Stored):
    """Of the encoders that take none."""


ENCODER_OPTIONS: Mapping[str, type[Stored]] = {
    "conv4": Conv4Options,
    "hierarchy": HierarchyOptions,
    "identity": NoOptions,
    "image": NoOptions,
    "mapped": MappedOptions,
    "mlp": MlpOptions,
    "pretrained": PretrainedOptions,
    "resnet12": ResNet12Options,
    "text": TextOptions,
}
MODALITIES: Mapping[str, frozenset[str]] = {
    "conv4": frozenset({"image"}),
    "hierarchy": frozenset({"vector"}),
    "identity": frozenset({"vector"}),
    "image": frozenset({"image"}),
    "mapped": frozenset({"image", "text", "vector"}),
    "mlp": frozenset({"vector"}),
    "pretrained": frozenset({"image", "text"}),
    "resnet12": frozenset({"image"}),
    "text": frozenset({"text"}),
}
FROZEN = frozenset({"image", "mapped", "pretrained", "text"})
"""Encoders whose backbone is never trained: :class:`kshot.encoders.frozen.FrozenEncoder`."""


def full_options(spec: EncoderSpec) -> dict[str, Any]:
    """The options of a spec with every default filled in; what only a checkpoint says (a source) stays as it is.

    Raises Invalid where an option is unknown or out of range, naming it.
    """
    known = _known(spec.name)
    beside = {name: value for name, value in spec.options.items() if name in {"source", "source_input"}}
    own = {name: value for name, value in spec.options.items() if name not in beside}
    if spec.name != "mapped":
        own, beside = own | beside, {}
    try:
        return known.model_validate(own).model_dump(mode="json") | beside
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        takes = ", ".join(known.model_fields) or "no options"
        message = f"encoder {spec.name}: {first['msg'][0].lower()}{first['msg'][1:]}; it takes {takes}"
        raise Invalid(message, param=f"encoder.options.{name}") from error


def check_encoder(spec: EncoderSpec, inputs: InputSpec) -> None:
    """Raises Invalid where the encoder does not exist, does not take its options or cannot read such inputs."""
    options = full_options(spec)
    if inputs.modality not in MODALITIES[spec.name]:
        readers = ", ".join(name for name, modalities in MODALITIES.items() if inputs.modality in modalities)
        message = f"encoder {spec.name} does not read {inputs.modality} inputs; choose one of {readers}"
        raise Invalid(message, param="encoder")
    if isinstance(inputs, ImageInput):
        _check_pictures(spec.name, options, inputs)
    if isinstance(inputs, VectorInput) and inputs.width is None and spec.name in {"mlp", "hierarchy"}:
        raise Invalid(f"encoder {spec.name} needs vectors of one width; choose identity", param="encoder")


def _known(name: str) -> type[Stored]:
    if name not in ENCODER_OPTIONS:
        raise Invalid(f"unknown encoder; choose one of {', '.join(ENCODER_OPTIONS)}", param="encoder")
    return ENCODER_OPTIONS[name]


def _check_pictures(name: str, options: Mapping[str, Any], inputs: ImageInput) -> None:
    least = {
        "conv4": 2**_HALVINGS if options.get("pooling") == "max" else 1,
        "resnet12": 2 ** len(options.get("widths", ())),
        "image": _SMALLEST_PHOTO,
    }.get(name, 1)
    if min(inputs.height, inputs.width) < least:
        message = f"this {name} encoder needs pictures of at least {least} x {least} pixels"
        raise Invalid(f"{message}; raise input.height and input.width", param="input")
    if name == "image" and inputs.channels != 3:
        raise Invalid("the image encoder reads colour pictures: set input.channels to 3", param="input.channels")
    widths = {"conv4": (options.get("channels", 0),), "resnet12": options.get("widths", ())}.get(name, ())
    if options.get("norm") == "group" and any(width % _NORM_GROUPS for width in widths):
        option = "channels" if name == "conv4" else "widths"
        raise Invalid(f"group norm needs multiples of {_NORM_GROUPS}", param=f"encoder.options.{option}")
