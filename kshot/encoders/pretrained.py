"""Anyone's pretrained network as a frozen encoder: a timm or sentence-transformers folder, with its own preprocessing.

``python -m kshot.encoders.pretrained PATH`` prints the ``[input]`` and ``[encoder]`` of a recipe for such a folder.
"""

import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput, InputSpec, TextInput
from kshot.contracts.errors import Invalid, KshotError
from kshot.contracts.wire import Inputs
from kshot.encoders.frozen import FrozenEncoder
from kshot.encoders.model_folders import check_fingerprint, find_folder, fingerprint, library, read_json
from kshot.encoders.pictures import picture_tensor

_ROWS_PER_PASS = 32
_WEIGHTS = "model.safetensors"
_MODULES = {"Dense", "Normalize", "Pooling", "Transformer"}


def pretrained(spec: InputSpec, *, path: str, sha256: str) -> FrozenEncoder:
    """The network in the folder ``path`` below ``KSHOT_PRETRAINED``, if it still is the one of that fingerprint.

    Raises Invalid where it is another one, cannot be read, or does not fit the input spec; Unavailable where this
    machine lacks the folder of models or the library.
    """
    folder = find_folder(path)
    check_fingerprint(folder, sha256)
    match spec:
        case ImageInput():
            return PretrainedPictures(spec, folder)
        case TextInput():
            return PretrainedTexts(spec, folder)
    raise Invalid("a pretrained encoder reads pictures or texts")


class _Pretrained(FrozenEncoder):
    """A frozen encoder whose backbone never leaves eval mode."""

    backbone: Any

    def _freeze(self, backbone: nn.Module) -> None:
        self.backbone = backbone.float().eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.backbone.eval()
        return self


class PretrainedPictures(_Pretrained):
    """uint8 pictures (n, H, W, C) -> the pooled features of a timm model, (n, its width).

    The spec must be :func:`picture_input` of the model's config: the front end scales as the model wants it, and the
    middle that the model sees is cut out here.
    """

    def __init__(self, spec: ImageInput, folder: Path) -> None:
        config = read_json(folder, "config.json")
        wanted = picture_input(config)
        if spec != wanted:
            raise Invalid(f"this model reads pictures by the input spec {wanted.model_dump_json()}")
        backbone = _timm_model(config, load_file(folder / _WEIGHTS))
        _, *seen = _data_config(config)["input_size"]
        super().__init__(_width(backbone, torch.zeros(1, spec.channels, *seen)))
        self.spec, self.seen = spec, seen
        self._freeze(backbone)

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        pictures = picture_tensor(inputs, self.spec, device)
        height, width = self.seen
        top, left = (round((a - b) / 2) for a, b in zip(pictures.shape[2:], self.seen, strict=True))
        return pictures[:, :, top : top + height, left : left + width]

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([self.backbone(pictures) for pictures in torch.split(x, _ROWS_PER_PASS)])


class PretrainedTexts(_Pretrained):
    """Texts (a list of n) -> sentence embeddings (n, the model's width), by the model's own tokens and default prompt.

    A prepared batch is int64 (n, k, longest): what the tokenizer gives (ids, attention mask, perhaps types).
    """

    def __init__(self, spec: TextInput, folder: Path) -> None:
        model = _sentence_transformer(folder)
        super().__init__(model.get_embedding_dimension())
        self.spec = spec
        self.keys = sorted(key for key, value in model.preprocess(["a"]).items() if torch.is_tensor(value))
        self.prompt: str | None = model.prompts.get(model.default_prompt_name)
        self._freeze(model)

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        if not isinstance(inputs, list):
            raise Invalid("expected texts")
        cut = [text[: self.spec.max_chars] for text in inputs]
        tokens = self.backbone.preprocess(cut, prompt=self.prompt)
        return torch.stack([tokens[key] for key in self.keys], dim=1).to(device)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([self._sentences(rows) for rows in torch.split(x, _ROWS_PER_PASS)])

    def _sentences(self, x: Tensor) -> Tensor:
        mask = x[:, self.keys.index("attention_mask")]
        tokens = dict(zip(self.keys, x[:, :, mask.any(0)].unbind(1), strict=True))
        sentences: Tensor = self.backbone(tokens)["sentence_embedding"]
        return sentences


def picture_input(config: dict[str, Any]) -> ImageInput:
    """The input spec of a timm config: its size before the middle is cut out, scaling, mean and std.

    Raises Invalid for a crop mode or interpolation that pictures cannot be prepared by.
    """
    data = _data_config(config)
    fits = {"center": "crop", "squash": "stretch"}
    if data["crop_mode"] not in fits or data["interpolation"] not in {"bilinear", "bicubic"}:
        raise Invalid("this model's crop mode or interpolation is not supported")
    channels, *seen = data["input_size"]
    height, width = (math.floor(side / data["crop_pct"]) for side in seen)
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        fit=fits[data["crop_mode"]],
        interpolation=data["interpolation"],
        mean=data["mean"],
        std=data["std"],
    )


def recipe_lines(path: str) -> str:
    """``[input]`` and ``[encoder]`` of a recipe for the model in the folder ``path`` below ``KSHOT_PRETRAINED``."""
    folder = find_folder(path)
    texts = (folder / "modules.json").is_file()
    spec = TextInput() if texts else picture_input(read_json(folder, "config.json"))
    inputs = "\n".join(f"{name} = {json.dumps(value)}" for name, value in spec.model_dump(mode="json").items())
    options = f"{{ path = {json.dumps(path)}, sha256 = {json.dumps(fingerprint(folder))} }}"
    return f'[input]\n{inputs}\n\n[encoder]\nname = "pretrained"\noptions = {options}\n'


def _data_config(config: dict[str, Any]) -> dict[str, Any]:
    """``input_size``, ``interpolation``, ``mean``, ``std``, ``crop_pct`` and ``crop_mode``, by timm's own rules.

    Older configs name them beside the architecture.
    """
    found: dict[str, Any] = library("timm.data").resolve_data_config(
        pretrained_cfg=config.get("pretrained_cfg", config)
    )
    return found


def _timm_model(config: dict[str, Any], weights: dict[str, Tensor]) -> Any:
    """The architecture of a config with these weights, without its classifier. Only names that timm itself knows."""
    timm = library("timm")
    name, arguments = config.get("architecture", ""), dict(config.get("model_args") or {})
    if not timm.is_model(name) or set(arguments) & set(inspect.signature(timm.create_model).parameters):
        raise Invalid("the config names no architecture of timm, or arguments that a saved model does not have")
    arguments.setdefault("num_classes", config.get("num_classes", 0))
    arguments.setdefault("in_chans", _data_config(config)["input_size"][0])
    try:
        model = timm.create_model(name, pretrained=False, **arguments)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Invalid("the weights do not fit the architecture the config names") from error
    model.reset_classifier(0)
    return model


def _sentence_transformer(folder: Path) -> Any:
    """The modules of a folder, all of kinds that read settings and safetensors alone."""
    for module in read_json(folder, "modules.json"):
        kind = str(module.get("type"))
        known = kind.startswith("sentence_transformers.") and kind.rpartition(".")[2] in _MODULES
        if not known or not (folder / str(module.get("path"))).resolve().is_relative_to(folder):
            raise Invalid(f"a pretrained text model is made of {', '.join(sorted(_MODULES))}")
    if (folder / "adapter_config.json").is_file():
        raise Invalid("the pretrained model is an adapter; merge it into its base model")
    make = library("sentence_transformers").SentenceTransformer
    try:
        model = make(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise Invalid("the pretrained text model cannot be read") from error
    if model.default_prompt_name and not all(getattr(module, "include_prompt", True) for module in model):
        raise Invalid("a model whose pooling leaves its prompt out is not supported")
    return model


def _width(backbone: nn.Module, x: Tensor) -> int:
    with torch.no_grad():
        return int(backbone.eval()(x).shape[1])


if __name__ == "__main__":
    try:
        sys.stdout.write(recipe_lines(sys.argv[1]))
    except KshotError as error:
        sys.exit(error.message)
