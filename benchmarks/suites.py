"""What is measured: a checkpoint, held-out tasks for it, and the figure it must reach.

Inputs go over the wire as a user would send them: PNG (dark ink on light paper), JPEG, text, numbers.
"""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, TextInput
from kshot.encoders.registry import build_encoder
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.episodes.sinusoids import sinusoids
from kshot.training.data import load_pool

SEED = 20_261_122
_N_QUERY = 15
_N_QUERY_POINTS = 100
_GLYPH = ImageInput(height=28, width=28, channels=1, invert=True)

Tasks = Callable[[Path], Iterator[Episode]]
Encode = Callable[[Any], Any]


@dataclass(frozen=True)
class Suite:
    """``target``: accuracy to reach, or mean squared error to stay under. ``to_wire``: one input as JSON takes it."""

    checkpoint: str
    data: str
    n_way: int | None
    k_shot: int
    target: float | None
    tasks: Tasks
    to_wire: Encode = lambda value: value
    against_sklearn: bool = False

    @property
    def name(self) -> str:
        """For example ``glyphs 5-way 1-shot``."""
        return f"{self.checkpoint} {f'{self.n_way}-way ' if self.n_way else ''}{self.k_shot}-shot"


def _png(picture: np.ndarray[Any, Any]) -> str:
    """An Omniglot drawing (ink = 255) as a user would send it: black on white, PNG, base64."""
    buffer = io.BytesIO()
    Image.fromarray(255 - picture[:, :, 0]).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _numbers(vector: np.ndarray[Any, Any]) -> list[float]:
    return [float(x) for x in vector]


def _drawn(pool: Callable[[Path], Pool], n_way: int, k_shot: int) -> Tasks:
    return lambda data: episodes(pool(data), EpisodeShape(n_way, k_shot, _N_QUERY), SEED)


def _omniglot(data: Path) -> Pool:
    return load_pool("omniglot", "test", data, _GLYPH)


def _banking(data: Path) -> Pool:
    return load_pool("banking77", "all", data, TextInput())


@cache
def _photos(data: Path) -> Pool:
    """The test classes as JPEG files in base64: the very bytes of the archive."""
    test = set(json.loads((data / "caltech101_84" / "splits.json").read_text())["test"])
    with zipfile.ZipFile(data / "caltech101_84" / "caltech101_84.zip") as archive:
        names = [name for name in archive.namelist() if name.split("/")[0] in test and not name.endswith("/")]
        files = [base64.b64encode(archive.read(name)).decode() for name in names]
    return pool_from_labels(files, [name.split("/")[0] for name in names])


@cache
def _banking_vectors(data: Path) -> Pool:
    """BANKING77 as vectors (n, 256) of the text encoder, so that scikit-learn and kshot see the same numbers."""
    texts = _banking(data)
    encoder = build_encoder(EncoderSpec(name="text"), TextInput())
    assert isinstance(texts.inputs, list)
    with torch.no_grad():
        vectors = encoder(encoder.prepare(texts.inputs, torch.device("cpu"))).numpy()
    return Pool(vectors, texts.classes, texts.rows)


SUITES: tuple[Suite, ...] = (
    *(
        Suite(name, "omniglot test, rotations", n_way, k_shot, target, _drawn(_omniglot, n_way, k_shot), _png)
        for name, n_way, k_shot, target in [
            ("glyphs", 5, 1, 0.980),
            ("glyphs", 5, 5, 0.993),
            ("glyphs", 20, 1, 0.945),
            ("glyphs-maml", 5, 1, 0.950),
            ("glyphs-maml", 5, 5, 0.980),
        ]
    ),
    *(
        Suite("intents", "banking77, all classes", n_way, k_shot, target, _drawn(_banking, n_way, k_shot))
        for n_way, k_shot, target in [(5, 1, 0.83), (5, 5, 0.94), (77, 5, 0.71)]
    ),
    *(
        Suite("photos", "caltech101_84 test classes", 5, k_shot, target, _drawn(_photos, 5, k_shot))
        for k_shot, target in [(1, 0.925), (5, 0.978)]
    ),
    Suite("curves", "sinusoids", None, 10, 0.30, lambda _: sinusoids(10, _N_QUERY_POINTS, SEED), _numbers),
    *(
        Suite(
            "vectors",
            "banking77 as vectors of the text encoder",
            n_way,
            k_shot,
            None,
            _drawn(_banking_vectors, n_way, k_shot),
            _numbers,
            against_sklearn=True,
        )
        for n_way, k_shot in [(5, 1), (5, 5), (20, 5)]
    ),
)
