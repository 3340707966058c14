"""Small data sets as callers would upload them, and the folders that runs read."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.episodes.datasets import Asked, inspect


def picture(seed: int, *, colour: bool = False, size: int = 12, kind: str = "PNG") -> bytes:
    """Dark strokes on light paper, or noise in colour."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size), 255, np.uint8)
    pixels[rng.integers(size), :] = 0
    buffer = io.BytesIO()
    image = Image.fromarray(rng.integers(0, 255, (size, size, 3), np.uint8) if colour else pixels)
    image.save(buffer, kind)
    return buffer.getvalue()


def as_png(pixels: np.ndarray) -> bytes:
    """A drawing, uint8 (height, width), as a one-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def picture_zip(n_classes: int = 10, per_class: int = 3, **options: Any) -> bytes:
    names = [f"set/Greek/character{i:02}/{j}.png" for i in range(n_classes) for j in range(per_class)]
    return zipped({name: picture(i, **options) for i, name in enumerate(names)})


def text_csv(n_classes: int = 10, per_class: int = 4) -> bytes:
    rows = [f'"say {i}, {j}",c{i}' for i in range(n_classes) for j in range(per_class)]
    return "\n".join(["text,label", *rows, ""]).encode()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def inspected(folder: Path, data: bytes, **asked: Any) -> DatasetManifest:
    """Inspect the bytes as a file."""
    file = folder / "upload"
    file.write_bytes(data)
    return inspect(file, Asked(id="ds_01J9ZK3V7Q8W5R2M4N6P0T1XYA", name="mine", **asked))


def laid(folder: Path, data: bytes, **asked: Any) -> Path:
    """The folder of a run for these bytes."""
    manifest = inspected(folder, data, **asked)
    assert manifest.file is not None
    (folder / manifest.file).write_bytes(data)
    (folder / DATASET_FILE).write_text(manifest.model_dump_json())
    return folder
