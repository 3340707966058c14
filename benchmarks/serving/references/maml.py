"""learn2learn's MAML, a task in every request: conv4 with the weights that kshot ships, five inner steps.

Runs in the peers' environment (`python -m benchmarks.peers.environment`), with nothing of kshot.
"""

import base64
import copy
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from safetensors.torch import load_file
from torch import nn

import benchmarks.peers.stand_ins  # noqa: F401 (first: learn2learn imports what it needs for data sets alone)

import learn2learn as l2l  # type: ignore[import-not-found]  # isort: skip

_WEIGHTS = Path(__file__).parents[3] / "checkpoints" / "glyphs-maml" / "weights.safetensors"
_STEPS, _LR = 5, 0.0012
_CHANNELS = 64

if threads := os.environ.get("THREADS"):
    torch.set_num_threads(int(threads))
app = FastAPI()


class Affine(nn.Module):
    """Scale and shift per channel: batch norm with its statistics folded in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(_CHANNELS)), nn.Parameter(torch.zeros(_CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, _CHANNELS, 3, padding=1, bias=False), Affine()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(nn.functional.max_pool2d(self.norm(self.conv(x)), 2))


class Network(nn.Module):
    """Four blocks and one row per class, all rows from the meta-learned one."""

    def __init__(self, weights: dict[str, torch.Tensor], ways: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(1 if i == 0 else _CHANNELS) for i in range(4)))
        self.head = nn.Linear(_CHANNELS, ways)
        own = {name.removeprefix("encoder."): tensor for name, tensor in weights.items()}
        own["head.weight"], own["head.bias"] = own["head.weight"].repeat(ways, 1), own["head.bias"].repeat(ways)
        self.load_state_dict(own)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.blocks(x).flatten(1))
        return logits


WEIGHTS = load_file(_WEIGHTS)
MODELS: dict[int, Any] = {}


class Examples(BaseModel):
    inputs: list[str]
    labels: list[str]


class Query(BaseModel):
    inputs: list[str]


class AdaptRequest(BaseModel):
    checkpoint: str
    support: Examples
    query: Query


@app.post("/adapt", status_code=201)
def adapt(request: AdaptRequest) -> dict[str, Any]:
    classes = sorted(set(request.support.labels))
    model = _model(len(classes))
    labels = torch.tensor([classes.index(label) for label in request.support.labels])
    support, query = pictures(request.support.inputs), pictures(request.query.inputs)
    learner = model.clone()
    for _ in range(_STEPS):
        learner.adapt(nn.functional.cross_entropy(learner(support), labels))
    with torch.no_grad():
        probabilities = learner(query).softmax(dim=1)
    predictions = [
        {"label": classes[int(row.argmax())], "probabilities": dict(zip(classes, row.tolist(), strict=True))}
        for row in probabilities
    ]
    return {"status": "succeeded", "predictions": predictions}


def _model(ways: int) -> Any:
    """First order: nothing is differentiated through the inner steps when a task is only served."""
    if ways not in MODELS:
        MODELS[ways] = l2l.algorithms.MAML(Network(copy.copy(WEIGHTS), ways), lr=_LR, first_order=True)
    return MODELS[ways]


def pictures(encoded: list[str]) -> torch.Tensor:
    """(n, 1, 28, 28), strokes 1 on 0."""
    opened = [Image.open(io.BytesIO(base64.b64decode(one))).convert("L").resize((28, 28)) for one in encoded]
    return 1 - torch.from_numpy(np.stack([np.asarray(one, dtype=np.float32) for one in opened]))[:, None] / 255
