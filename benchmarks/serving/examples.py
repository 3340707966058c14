"""One example more for a support of 50 photographs, against adapting to all 51 from scratch."""

import base64
import io
import json
import secrets
import statistics
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.serving.connection import JSON, Connection, connect, post

_SIDE = 224
_CLASSES = 5


@dataclass(frozen=True)
class Growth:
    """Milliseconds a caller waited, medians."""

    support: int
    one_more: float
    from_scratch: float


async def grow(url: str, key: str, support: int = 50, times: int = 5) -> Growth:
    """``times`` new models of ``support`` + 1 pictures, and as many of one picture added to an adapted model."""
    connection = await connect(url)
    parent, _ = await _made(connection, "/adapt", _adapt(support), key)
    scratch = [(await _made(connection, "/adapt", _adapt(support + 1), key))[1] for _ in range(times)]
    path = f"/v1/adapted-models/{parent}/examples"
    more = [(await _made(connection, path, {"support": _examples(1)}, key))[1] for _ in range(times + 1)]
    connection.close()
    return Growth(support, statistics.median(more[1:]), statistics.median(scratch))


async def _made(connection: Connection, path: str, body: dict[str, object], key: str) -> tuple[str, float]:
    request = post(path, JSON, json.dumps(body).encode(), key)
    started = time.perf_counter()
    answer = await connection.ask(request)
    waited = (time.perf_counter() - started) * 1000
    if answer.status != 201:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:500]!r}")
    return str(json.loads(answer.body)["id"]), waited


def _adapt(count: int) -> dict[str, object]:
    return {"checkpoint": "photos", "support": _examples(count)}


def _examples(count: int) -> dict[str, object]:
    inputs = [picture(secrets.randbits(32)) for _ in range(count)]
    return {"inputs": inputs, "labels": [f"class {i % _CLASSES}" for i in range(count)]}


def picture(seed: int) -> str:
    """Coloured shapes on a gradient, 224 x 224, a JPEG in base64."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, _SIDE, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    canvas = Image.fromarray(np.stack([red, green, np.full_like(red, random.integers(256))], axis=2))
    pen = ImageDraw.Draw(canvas)
    for _ in range(6):
        x, y, size = random.integers(0, _SIDE - 20, size=3).tolist()
        colour = tuple(random.integers(0, 256, size=3).tolist())
        draw = pen.ellipse if random.random() < 0.5 else pen.rectangle
        draw((x, y, x + size // 2 + 10, y + size // 2 + 10), fill=colour)
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=90)
    return base64.b64encode(file.getvalue()).decode()
