"""scikit-learn's linear classifiers with their default settings: one fit for each task."""

from typing import Any

import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from benchmarks.peers.networks import Tensors, episodes
from benchmarks.peers.sides import Work

_HEADS = {"RidgeClassifier": RidgeClassifier, "LogisticRegression": LogisticRegression}


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    drawn = [tuple(part.numpy() for part in parts) for parts in episodes(tensors, tasks)]
    head = _HEADS[settings["head"]]

    def classes() -> list[NDArray[Any]]:
        return [head().fit(x, y).predict(query) for x, y, query, _ in drawn]

    def read(found: list[NDArray[Any]]) -> Tensors:
        return {"classes": torch.stack([torch.from_numpy(answer) for answer in found])}

    return Work(classes, read)
