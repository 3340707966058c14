"""Which encoder a job trains, what it reads, and whether it can begin at the base checkpoint's."""

from typing import Any

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, InputSpec, Manifest, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.planning.encoder_options import FROZEN, check_encoder, full_options
from kshot.planning.learner import GRADIENT
from kshot.planning.wanted import Wanted

_PHOTO_MEAN, _PHOTO_STD = (0.498039,) * 3, (0.501961,) * 3  # 127/255 and 128/255, what the network was trained with
_EMBEDDING_WIDTH = 128
"""Vectors so wide are mostly embeddings that another model made, and an mlp trained on few classes forgets more of them
than it learns: 256 columns of CLINC150, 5-way 1-shot, 82.0% by ridge on them as they are and 74.9% through an mlp."""
_LARGEST_SIDE = 512
_MOST_CHARS = 100_000
_DRAWING = ImageInput(height=28, width=28, channels=1)
_PHOTO = ImageInput(height=192, width=192, channels=3, mean=_PHOTO_MEAN, std=_PHOTO_STD)


def choose_encoder_name(wanted: Wanted) -> str:
    """The request's encoder, or the base checkpoint's (mapped, where that is frozen), or the modality's own."""
    asked, base = wanted.request.encoder, wanted.base
    if asked is not None:
        return asked if isinstance(asked, str) else asked.name
    if base is not None:
        return "mapped" if base.encoder.name in FROZEN else base.encoder.name
    match wanted.dataset.modality:
        case "text":
            return "text"
        case "image":
            return "conv4" if wanted.drawings or _recorded_channels(wanted) == 1 else "image"
    if wanted.kind == "table":
        return "hierarchy"
    width = _width(wanted)
    return "mlp" if width is not None and width < _EMBEDDING_WIDTH else "identity"


def choose_input(wanted: Wanted, encoder: str) -> InputSpec:
    """What the encoder reads. Raises Invalid where the request's input does not suit the data or the base."""
    given, recorded = wanted.request.input, wanted.dataset.input
    if given is None:
        return recorded or _of_base(wanted, encoder) or _usual_input(wanted, encoder)
    _check_input(wanted, given)
    if recorded is not None and given != recorded:
        raise Invalid("these tasks were recorded in another form; leave input out", param="input")
    return given


def choose_encoder(wanted: Wanted, name: str, inputs: InputSpec, learner: str) -> EncoderSpec:
    """The encoder with its options. Raises Invalid where it would not run with the learner, the inputs or the base."""
    asked, base = wanted.request.encoder, wanted.base
    given = dict(asked.options) if isinstance(asked, EncoderSpec) else {}
    if name == "mapped":
        return _mapped(wanted, given, inputs)
    if base is not None and base.encoder.name == name and not given:
        spec = EncoderSpec(name=name, options=base.encoder.options | _norm(name, learner, base.encoder.options))
    else:
        full_options(EncoderSpec(name=name, options=given))  # before defaults are mixed in: faults are the caller's
        spec = EncoderSpec(name=name, options=_usual_options(wanted, name, learner) | given)
    check_encoder(spec, inputs)
    _check_norm(spec, learner, base)
    if wanted.request.workers_per_job > 1 and full_options(spec).get("dropout"):
        message = "with dropout several processes would drop different units: set it to 0, or workers_per_job to 1"
        raise Invalid(message, param="encoder.options.dropout")
    if wanted.kind == "table" and name == "identity":
        raise Invalid("there is nothing to train in the identity encoder; choose hierarchy or mlp", param="encoder")
    if base is not None:
        _check_fit(spec, inputs, base)
    return spec


def _usual_input(wanted: Wanted, encoder: str) -> InputSpec:
    match wanted.dataset.modality:
        case "text":
            return TextInput()
        case "vector":
            return VectorInput(width=_width(wanted))
    if encoder not in {"conv4", "resnet12"}:
        return _PHOTO
    found = wanted.dataset.pictures
    if found is not None and found.greyscale:
        return _DRAWING.model_copy(update={"invert": found.dark_on_light})
    return ImageInput(height=84, width=84, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)


def _of_base(wanted: Wanted, encoder: str) -> InputSpec | None:
    """The base's own input, of any width where the encoder takes any. Drawings that are light on dark already are not
    inverted for an encoder that is mapped."""
    if wanted.base is None or wanted.base.input.modality != wanted.dataset.modality:
        return None
    inputs, found = wanted.base.input, wanted.dataset.pictures
    if isinstance(inputs, VectorInput) and inputs.width is None and encoder != "identity":
        return VectorInput(width=_width(wanted))
    if isinstance(inputs, ImageInput) and inputs.invert and found is not None and not found.dark_on_light:
        return inputs.model_copy(update={"invert": False})
    return inputs


def _check_input(wanted: Wanted, given: InputSpec) -> None:
    if given.modality != wanted.dataset.modality:
        raise Invalid(f"the data set holds inputs of kind {wanted.dataset.modality}", param="input.modality")
    if isinstance(given, VectorInput) and given.width != _width(wanted):
        raise Invalid(f"the vectors of this data set have width {_width(wanted)}", param="input.width")
    if isinstance(given, TextInput) and not 1 <= given.max_chars <= _MOST_CHARS:
        raise Invalid(f"must be from 1 to {_MOST_CHARS}", param="input.max_chars")
    if isinstance(given, ImageInput):
        for side in ("height", "width"):
            if not 1 <= getattr(given, side) <= _LARGEST_SIDE:
                raise Invalid(f"must be from 1 to {_LARGEST_SIDE} pixels", param=f"input.{side}")
        for name in ("mean", "std"):
            if len(getattr(given, name)) not in {1, given.channels}:
                raise Invalid("needs one number, or one for each channel", param=f"input.{name}")
        if min(given.std) <= 0:
            raise Invalid("must be above 0", param="input.std")


def _usual_options(wanted: Wanted, name: str, learner: str) -> dict[str, Any]:
    table, alone = wanted.kind == "table", wanted.request.workers_per_job == 1
    usual: dict[str, dict[str, Any]] = {
        "conv4": {"pooling": "max", "norm": "batch"},
        "resnet12": {"widths": [64, 96, 128, 256]},
        "text": {"random_features": 2048},
        "mlp": {"hidden": [40, 40]} if wanted.kind == "curves" else {"hidden": [128, 128], "standardised": True},
        "hierarchy": {"levels": [[128, 64]], "dropout": 0.2 if table and alone else 0.0, "standardised": True},
    }
    return usual.get(name, {}) | _norm(name, learner, {})


def _norm(name: str, learner: str, before: dict[str, Any]) -> dict[str, Any]:
    """Gradient learners never see the statistics of a batch; of a batch norm's weights they can begin at both others.

    Only anil moves nothing below its head, and is trained on embeddings as metric learners are.
    """
    if learner not in GRADIENT or learner == "anil" or before.get("norm", "batch") != "batch":
        return {}
    return {"conv4": {"norm": "task"}, "resnet12": {"norm": "group"}}.get(name, {})


def _check_norm(spec: EncoderSpec, learner: str, base: Manifest | None) -> None:
    norm, param = full_options(spec).get("norm"), "encoder.options.norm"
    if norm == "batch" and learner in GRADIENT - {"anil"}:
        other = "task" if spec.name == "conv4" else "group"
        raise Invalid(f"learner {learner} never sees the statistics of a batch: choose norm {other}", param=param)
    if norm == "task" and learner not in GRADIENT:
        raise Invalid(f"learner {learner} does not adapt norms to a task: choose norm batch or group", param=param)


def _mapped(wanted: Wanted, given: dict[str, Any], inputs: InputSpec) -> EncoderSpec:
    base = wanted.base
    if base is None:
        message = "a mapped encoder needs a source: name it as base_checkpoint"
        raise Invalid(message, param="encoder")
    if wanted.kind not in {"classes", "tasks"}:
        raise Invalid("a mapped encoder is trained on classes; choose mlp or hierarchy", param="encoder")
    for name in ("source", "source_input"):
        if name in given:
            raise Invalid("the source is base_checkpoint's encoder; leave this out", param=f"encoder.options.{name}")
    full_options(EncoderSpec(name="mapped", options=given))
    if base.encoder.name == "mapped" and not given:
        _check_modality(inputs, base)
        _check_fit(base.encoder, inputs, base)
        return base.encoder
    _check_modality(inputs, base)
    width_unknown = isinstance(base.input, VectorInput) and base.input.width is None
    if width_unknown or full_options(base.encoder).get("norm") == "task":
        raise Invalid("base_checkpoint's embeddings have no fixed form to map from", param="base_checkpoint")
    source = {
        "source": base.encoder.model_dump(mode="json"),
        "source_input": base.input.model_dump(mode="json"),
    }
    return EncoderSpec(name="mapped", options={"hidden": 256} | given | source)


def _check_modality(inputs: InputSpec, base: Manifest) -> None:
    if inputs.modality != base.input.modality:
        message = f"base_checkpoint reads {base.input.modality} inputs, the data set holds {inputs.modality}"
        raise Invalid(message, param="base_checkpoint")


def _check_fit(spec: EncoderSpec, inputs: InputSpec, base: Manifest) -> None:
    """Raises Invalid where the base's tensors are not those of the encoder."""
    _check_modality(inputs, base)
    if spec.name != base.encoder.name:
        message = f"base_checkpoint's encoder is {base.encoder.name}: leave encoder out, or choose mapped"
        raise Invalid(message, param="encoder")
    own, before = full_options(spec), full_options(base.encoder)
    if before.get("norm") == "batch" and own.get("norm") in {"affine", "task"}:
        own = own | {"norm": "batch"}
    differing = [name for name in own if own[name] != before.get(name)]
    if differing:
        message = f"base_checkpoint's encoder has another {differing[0]}: leave encoder.options out, or choose mapped"
        raise Invalid(message, param=f"encoder.options.{differing[0]}")
    any_width = isinstance(base.input, VectorInput) and base.input.width is None
    if _shape(inputs) != _shape(base.input) and not any_width:
        raise Invalid("base_checkpoint reads inputs of another shape: leave input out", param="input")


def _shape(inputs: InputSpec) -> tuple[int | None, ...]:
    match inputs:
        case ImageInput():
            return inputs.height, inputs.width, inputs.channels
        case VectorInput():
            return (inputs.width,)
    return ()


def _width(wanted: Wanted) -> int | None:
    recorded = wanted.dataset.input
    if wanted.kind == "curves":
        return 1
    return recorded.width if isinstance(recorded, VectorInput) else wanted.dataset.width


def _recorded_channels(wanted: Wanted) -> int | None:
    return wanted.dataset.input.channels if isinstance(wanted.dataset.input, ImageInput) else None
