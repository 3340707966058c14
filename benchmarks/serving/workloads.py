"""What callers ask: whole requests as bytes, quick to make, and no two alike where a server could remember."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.numpy import save

from benchmarks.serving.connection import JSON, SAFETENSORS, post
from benchmarks.serving.measuring import Requests

Floats = NDArray[np.float32]
_WIDTH = 384
_WAYS = 5
_POOL = 32
_DIGITS = 9


def vector_task(shots: int = 5, width: int = _WIDTH, seed: int = 0) -> tuple[Floats, list[int], Floats]:
    """Support (n, width), labels and one query (1, width) of a 5-way task."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(_WAYS, 1, width))
    support = (centres + random.normal(size=(_WAYS, shots, width))).reshape(-1, width).astype(np.float32)
    query = (centres[0] + random.normal(size=(1, width))).astype(np.float32)
    return support, [label for label in range(_WAYS) for _ in range(shots)], query


def adapt_json(
    path: str = "/adapt", key: str | None = None, shots: int = 5, width: int = _WIDTH, learner: str | None = None
) -> Requests:
    """5-way adapt + one query as JSON, numbers as a caller's `tolist()` writes them; every row differs every time."""
    templates = [_json_template(shots, width, seed, learner) for seed in range(_POOL)]

    def request(number: int) -> bytes:
        mark = f"{number % 10**_DIGITS:0{_DIGITS}d}".encode()
        return post(path, JSON, mark.join(templates[number % _POOL]), key)

    return request


def _json_template(shots: int, width: int, seed: int, learner: str | None) -> list[bytes]:
    """A body cut where the digits of the first number of each row go."""
    support, labels, query = vector_task(shots, width, seed)
    rows, options = ",".join(map(_row, support)), {"learner": learner} if learner else {}
    body = (
        f'{{"checkpoint":"vectors","support":{{"inputs":[{rows}],"labels":{json.dumps(labels)}}},'
        f'"query":{{"inputs":[{_row(query[0])}]}},"options":{json.dumps(options)}}}'
    )
    return [part.encode() for part in body.split("#")]


def _row(numbers: Floats) -> str:
    return f"[0.#, {json.dumps(numbers[1:].tolist())[1:]}"


def adapt_tensors(
    path: str = "/adapt", key: str | None = None, shots: int = 5, width: int = _WIDTH, pool: int = _POOL
) -> Requests:
    """The same task as one safetensors buffer."""
    tasks = [vector_task(shots, width, seed) for seed in range(pool)]
    metadata = {"header": json.dumps({"checkpoint": "vectors"})}

    def request(number: int) -> bytes:
        support, labels, query = tasks[number % pool]
        support[:, 0] = query[:, 0] = number % 2**24 / 2**24  # float32 holds 24 bits exactly
        tensors: dict[str, NDArray[Any]] = {
            "support.inputs": support,
            "support.targets": np.asarray(labels, dtype=np.int64),
            "query.inputs": query,
        }
        return post(path, SAFETENSORS, save(tensors, metadata), key)

    return request


def predict_json(model: str, path: str = "/predict", key: str | None = None, width: int = _WIDTH) -> Requests:
    """One vector for an adapted model."""
    _, _, query = vector_task(width=width)
    before, after = f'{{"model":"{model}","inputs":[{_row(query[0])}]}}'.encode().split(b"#")

    def request(number: int) -> bytes:
        return post(path, JSON, b"%s%0*d%s" % (before, _DIGITS, number % 10**_DIGITS, after), key)

    return request


def adapt_glyphs(
    path: str = "/adapt", key: str | None = None, queries: int = 1, pool: int = 256, checkpoint: str = "glyphs-maml"
) -> Requests:
    """5-way 1-shot, PNGs in JSON, ``queries`` a class: drawn by a program, a new choice of them every time."""
    pictures = [glyph(seed) for seed in range(pool)]

    def request(number: int) -> bytes:
        chosen = np.random.default_rng(number).choice(pool, _WAYS * (1 + queries), replace=False)
        support, query = ([pictures[i] for i in part] for part in (chosen[:_WAYS], chosen[_WAYS:]))
        return _small(path, key, checkpoint, support, [str(way) for way in range(_WAYS)], query)

    return request


def adapt_texts(path: str = "/adapt", key: str | None = None) -> Requests:
    """`intents`, 2-way 2-shot and one query; the number in every text makes it another one."""

    def request(number: int) -> bytes:
        support = [
            f"{text} {number}" for text in ("where is my card", "card has not come", "I want a refund", "pay me")
        ]
        return _small(path, key, "intents", support, ["arrival", "arrival", "refund", "refund"], [f"card {number}?"])

    return request


def _small(
    path: str, key: str | None, checkpoint: str, support: list[str], labels: list[str], query: list[str]
) -> bytes:
    body = {
        "checkpoint": checkpoint,
        "support": {"inputs": support, "labels": labels},
        "query": {"inputs": query},
    }
    return post(path, JSON, json.dumps(body).encode(), key)


def glyph(seed: int, side: int = 28) -> str:
    """Three strokes in black on white, a PNG in base64."""
    random = np.random.default_rng(seed)
    picture = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(picture)
    for _ in range(3):
        pen.line([tuple(point) for point in random.integers(2, side - 2, size=(3, 2)).tolist()], fill=0, width=2)
    return base64.b64encode(_encoded(picture, "PNG")).decode()


def _encoded(picture: Image.Image, format_: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_)
    return file.getvalue()


Maker = Callable[[str | None], Requests]
ADAPT: dict[str, Maker] = {
    "vectors-adapt": lambda key: adapt_json(key=key),
    "vectors-adapt-binary": lambda key: adapt_tensors(key=key),
    "glyphs-maml": lambda key: adapt_glyphs(key=key),
    "glyphs-maml-75": lambda key: adapt_glyphs(key=key, queries=15),
}
"""Workloads that need nothing made before them."""
