"""Data sets as several checkpoints see them: each example in each one's canonical form, with its embedding, kept."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import ImageInput, InputSpec, TextInput
from kshot.contracts.wire import Array, Inputs
from kshot.encoders.embedded import Embedded
from kshot.episodes.pool import Pool, take
from kshot.inputs.images import decode_image
from kshot.learners.base import Support
from kshot.learners.batching import embed
from kshot.training.data import load_pool

_GLYPH = ImageInput(height=28, width=28, channels=1, invert=True)
_GLYPH_CLASSES, _TEXTS_PER_CLASS = 110, 25


@dataclass(frozen=True)
class Labelled:
    """Held-out examples as a caller would send them (files, texts, vectors), and the number of each one's class."""

    name: str
    raw: Sequence[bytes] | list[str] | Array
    labels: Array


@dataclass(frozen=True)
class Seen:
    """Examples as one checkpoint sees them: their embeddings (n, d) before adaptation, and ``inputs`` if asked for."""

    checkpoint: Checkpoint
    data: Labelled
    embeddings: Tensor

    @cached_property
    def inputs(self) -> Inputs:
        """In the checkpoint's canonical form."""
        return _canonical(self.data, self.checkpoint.manifest.input)

    def embedded(self) -> Checkpoint:
        """The checkpoint on rows of ``embeddings`` in place of inputs."""
        return Checkpoint(self.checkpoint.manifest, Embedded(self.embeddings).eval(), self.checkpoint.head)


def glyphs(data: Path) -> Labelled:
    """110 of Omniglot's test classes as PNG files, black ink on white."""
    pool = load_pool("omniglot", "test", data, _GLYPH)
    chosen = np.random.default_rng(0).choice(len(pool.classes), _GLYPH_CLASSES, replace=False)
    rows = np.concatenate([pool.rows[index] for index in chosen])
    labels = np.repeat(np.arange(_GLYPH_CLASSES), [len(pool.rows[index]) for index in chosen])
    assert not isinstance(pool.inputs, list)
    return Labelled("glyphs", [_png(255 - pool.inputs[row][:, :, 0]) for row in rows], labels)


def photos(data: Path) -> Labelled:
    """Caltech's 20 test classes, the very files."""
    test = set(json.loads((data / "caltech101_84/splits.json").read_text())["test"])
    with zipfile.ZipFile(data / "caltech101_84/caltech101_84.zip") as archive:
        names = [name for name in archive.namelist() if name.split("/")[0] in test and not name.endswith("/")]
        files = [archive.read(name) for name in names]
    return Labelled("photos", files, _numbered([name.split("/")[0] for name in names]))


def intents(data: Path) -> Labelled:
    """BANKING77: 25 texts of each of its 77 intents."""
    return _texts("intents", load_pool("banking77", "all", data, TextInput()))


def clinc(data: Path) -> Labelled:
    """CLINC150's test intents, 25 texts of each."""
    return _texts("clinc150", load_pool("clinc150", "test", data, TextInput()))


def _texts(name: str, pool: Pool) -> Labelled:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(own, _TEXTS_PER_CLASS, replace=False) for own in pool.rows])
    texts = take(pool.inputs, rows)
    assert isinstance(texts, list)
    return Labelled(name, texts, np.repeat(np.arange(len(pool.classes)), _TEXTS_PER_CLASS))


def see(checkpoint: Checkpoint, data: Labelled, cache: Path) -> Seen:
    """The data in a checkpoint's canonical form and embedded, from ``cache`` where they were before."""
    spec = checkpoint.manifest.input
    key = hashlib.sha256(f"{checkpoint.manifest.weights_sha256} {spec} {_digest(data)}".encode()).hexdigest()[:16]
    file = cache / f"{data.name}-{checkpoint.manifest.name}-{key}.safetensors"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            x = embed(checkpoint.encoder, [_canonical(data, spec)], torch.device("cpu"))[0]
        save_file({"x": x.contiguous()}, file)
    return Seen(checkpoint, data, load_file(file)["x"])


def _canonical(data: Labelled, spec: InputSpec) -> Inputs:
    if isinstance(spec, ImageInput):
        return np.stack([decode_image(file, spec) for file in data.raw if isinstance(file, bytes)])
    return [str(text) for text in data.raw] if isinstance(spec, TextInput) else np.asarray(data.raw)


@dataclass(frozen=True)
class Draw:
    """Rows of one episode, supports and queries, with their class within it."""

    n_way: int
    support: Array
    support_targets: Array
    query: Array
    query_targets: Array

    def of(self, inputs: Inputs) -> Support:
        """The support with these inputs' rows."""
        return Support("classification", take(inputs, self.support), torch.as_tensor(self.support_targets), self.n_way)

    def of_rows(self) -> Support:
        """The support with row numbers as inputs, for :meth:`Seen.embedded`."""
        return Support("classification", self.support, torch.as_tensor(self.support_targets), self.n_way)


def draws(labels: Array, n_way: int, k_shot: int, n_query: int, seed: int) -> Iterator[Draw]:
    """Endless episodes of one shape."""
    rng = np.random.default_rng([seed, n_way, k_shot])
    classes = np.unique(labels)
    while True:
        chosen = rng.choice(classes, n_way, replace=False)
        rows = np.stack([rng.permutation(np.flatnonzero(labels == c))[: k_shot + n_query] for c in chosen])
        targets = np.arange(n_way)
        yield Draw(
            n_way,
            rows[:, :k_shot].reshape(-1),
            targets.repeat(k_shot),
            rows[:, k_shot:].reshape(-1),
            targets.repeat(n_query),
        )


def _png(picture: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _numbered(names: Sequence[str]) -> Array:
    return np.unique(np.asarray(names), return_inverse=True)[1]


def _digest(data: Labelled) -> str:
    parts = [x.encode() if isinstance(x, str) else bytes(x) for x in data.raw]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
