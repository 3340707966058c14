"""Omniglot (Lake et al. 2015): packed one-bit drawings in an npz, with the class split of Vinyals et al. (2016)."""

from pathlib import Path
from typing import Literal

import numpy as np

from kshot.contracts.errors import Invalid
from kshot.episodes.archives import read_npz
from kshot.episodes.pool import Pool, select_classes

Split = Literal["train", "valid", "trainval", "test"]

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
