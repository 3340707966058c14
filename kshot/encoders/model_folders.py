"""Folders of pretrained models: where they may lie, what may be in them, and whether one is still the same.

All lie below the folder that ``KSHOT_PRETRAINED`` names. A manifest may come from outside, so it names a folder below
that one and nothing else of the machine. Nothing is downloaded, nothing unpickled.
"""

import hashlib
import json
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from kshot.contracts.errors import Invalid, Unavailable

SETTING = "KSHOT_PRETRAINED"

_READ = {".json", ".model", ".safetensors", ".txt"}
_WEIGHTS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
_PICKLED = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_OPERATORS = ("nms", "qnms")


def find_folder(path: str) -> Path:
    """The model folder ``path``, relative to the folder of all models.

    Raises Unavailable where this machine has no such folder of models; Invalid where ``path`` leaves it or is missing,
    and where weights in it or below are not what a library reads without unpickling: ``model.safetensors``, whatever
    lies beside it, or the index of its shards with no pickled file beside it, for not every module looks for an index.
    """
    root = os.environ.get(SETTING)
    if not root:
        raise Unavailable(f"this checkpoint needs a pretrained model: set {SETTING} to the folder such models lie in")
    base, folder = Path(root).resolve(), (Path(root) / path).resolve()
    if Path(path).is_absolute() or folder == base or not folder.is_relative_to(base):
        raise Invalid(f"the path of a pretrained model is relative to {SETTING} and stays below it")
    files = _files(folder)
    if not all(file.resolve().is_relative_to(base) for file in files):
        raise Invalid(f"a file of the pretrained model lies outside {SETTING}")
    whole, sharded = ({file.parent for file in files if file.name == name} for name in (_WEIGHTS, _SHARDS))
    pickled, named = ({file.parent for file in files if file.suffix in kinds} for kinds in (_PICKLED, {".safetensors"}))
    if not whole | sharded or pickled - whole or named - whole - sharded:
        raise Invalid(
            "the pretrained model has no model.safetensors, and pickled weights are never read; convert them where "
            "you trust them: safetensors.torch.save_file(torch.load('pytorch_model.bin', weights_only=True), "
            "'model.safetensors')"
        )
    return folder


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of all files that a model is built from: weights, settings, vocabularies."""
    whole = hashlib.sha256()
    for file in sorted(_files(folder)):
        if file.suffix in _READ:
            with file.open("rb") as content:
                part = hashlib.file_digest(content, "sha256").hexdigest()
            whole.update(f"{part}  {file.relative_to(folder).as_posix()}\n".encode())
    return whole.hexdigest()


def check_fingerprint(folder: Path, sha256: str) -> None:
    """Raises Invalid where the folder holds another model than the one a checkpoint was made with."""
    if fingerprint(folder) != sha256:
        raise Invalid("the pretrained model is not the one this checkpoint was made with (sha256 differs)")


def read_json(folder: Path, name: str) -> Any:
    """A settings file of a model. Raises Invalid where it is missing or no JSON."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"the pretrained model has no readable {name}") from error


def library(name: str) -> Any:
    """An optional package. Raises Unavailable where it is not installed."""
    _declare_operators()
    try:
        return import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name.replace('_', '-')} is not installed: pip install 'kshot[pretrained]'") from error


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


@cache
def _declare_operators() -> torch.library.Library | None:
    """Let torchvision be imported beside a torch without CUDA.

    PyPI's wheels of torchvision are built for CUDA. Beside a torch that is not, their operators do not load, and the
    import stops where it describes the first of them. No model here uses any, so declaring them is enough.
    """
    if find_spec("torchvision") is None:
        return None
    try:
        import_module("torchvision")
    except RuntimeError:
        declared = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in _OPERATORS:
            schema = f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
            declared.define(schema)  # type: ignore[no-untyped-call]
        return declared
    return None
