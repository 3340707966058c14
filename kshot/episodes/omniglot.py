"""Omniglot (Lake et al. 2015): packed one-bit drawings in an npz, with the class split of Vinyals et al. (2016); or the
original two zip archives."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array
from kshot.episodes.archives import open_zip, read_entry, read_npz
from kshot.episodes.pool import Pool, select_classes
from kshot.episodes.splits import split_classes

Split = Literal["train", "valid", "trainval", "test"]

PACKED = "omniglot28_bits.npz"
ORIGINAL = ("images_background.zip", "images_evaluation.zip")
_SIDE = 28
_DRAWERS = 20
_SPLIT_CODES: dict[Split, list[int]] = {"train": [0], "valid": [1], "trainval": [0, 1], "test": [2]}


def read_omniglot(archive: Path, split: Split) -> Pool:
    """The characters of one split: uint8 (n * 20, 28, 28, 1), ink = 255, paper = 0; classes ``alphabet/character``.

    Raises Invalid where the archive is not ``omniglot28_bits.npz``.
    """
    arrays = read_npz(archive)
    try:
        packed, codes = arrays["images"], arrays["vinyals_split"]
        names = [f"{a}/{c}" for a, c in zip(arrays["alphabet"], arrays["character"], strict=True)]
    except (KeyError, ValueError) as error:
        raise Invalid("not the packed Omniglot archive: arrays are missing") from error
    if packed.shape != (len(names), _DRAWERS, _SIDE * _SIDE // 8) or packed.dtype != np.uint8:
        raise Invalid("not the packed Omniglot archive: wrong shape")
    bits = np.unpackbits(packed, axis=-1).reshape(-1, _SIDE, _SIDE, 1)
    rows = tuple(np.arange(i * _DRAWERS, (i + 1) * _DRAWERS) for i in range(len(names)))
    everything = Pool(bits * np.uint8(255), tuple(names), rows)
    return select_classes(everything, [names[i] for i in np.flatnonzero(np.isin(codes, _SPLIT_CODES[split]))])


def write_omniglot_zip(folder: Path, file: Path) -> dict[str, list[str]]:
    """Write one zip of class folders (``alphabet/character/drawing.png``, ink dark on light) from what ``folder`` or
    its subfolder ``omniglot`` holds; the same bytes each time. Returns its split by class.

    The packed archive has the split of Vinyals et al. (2016). The original archives are Lake's: the evaluation
    alphabets are ``test``, and a fifth of the background characters, drawn by seed 0, ``valid``.
    Raises Invalid where neither is there, or either is damaged.
    """
    for place in (folder, folder / "omniglot"):
        if (place / PACKED).is_file():
            return _repack(place / PACKED, file)
        if all((place / name).is_file() for name in ORIGINAL):
            return _join([place / name for name in ORIGINAL], file)
    raise Invalid(
        f"the server's data folder (KSHOT_DATA) holds neither {ORIGINAL[0]} and {ORIGINAL[1]} nor {PACKED}; "
        "ask the operator to put them there, or upload a zip of the characters",
        param="source",
    )


def _repack(packed: Path, file: Path) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    with zipfile.ZipFile(file, "w") as made:
        for part in ("train", "valid", "test"):
            pool = read_omniglot(packed, part)
            assert not isinstance(pool.inputs, list)
            splits[part] = list(pool.classes)
            for name, rows in zip(pool.classes, pool.rows, strict=True):
                for number, drawing in enumerate(255 - pool.inputs[rows, :, :, 0], 1):
                    made.writestr(zipfile.ZipInfo(f"{name}/{number:02}.png"), _png(drawing))
    return splits


def _join(archives: list[Path], file: Path) -> dict[str, list[str]]:
    """Both archives in one, each without its own outermost folder."""
    found: list[set[str]] = []
    with zipfile.ZipFile(file, "w") as made:
        for archive in archives:
            found.append(set())
            for path, data in _pictures(archive):
                found[-1].add("/".join(path.parts[1:-1]))
                made.writestr(zipfile.ZipInfo("/".join(path.parts[1:])), data)
    background, evaluation = (sorted(names) for names in found)
    splits = split_classes(background, (0.8, 0.2, 0.0), seed=0)
    return {"train": list(splits["train"]), "valid": list(splits["valid"]), "test": evaluation}


def _pictures(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with open_zip(archive) as opened:
        for name in opened.namelist():
            path = PurePosixPath(name)
            if path.suffix == ".png" and len(path.parts) == 4 and not path.parts[0].startswith("__MACOSX"):
                yield path, read_entry(opened, name)


def _png(drawing: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawing).convert("1").save(buffer, "PNG")
    return buffer.getvalue()
