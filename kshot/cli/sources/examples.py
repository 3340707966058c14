"""Examples as they were read: inputs, their labels where there are any, and what to call each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kshot.contracts.wire import Array

Modality = Literal["image", "text", "vector"]
Task = Literal["classification", "regression"]
Truth = str | float | list[float]
"""A label: a class, a value, or several values."""


_SHOWN_CHARS = 60
NOUNS: dict[Modality, str] = {"image": "pictures", "text": "texts", "vector": "vectors"}


class WrongUse(Exception):
    """The command was given something that it cannot work with; the message says what to do. Exit code 2."""


@dataclass(frozen=True)
class Examples:
    """n inputs. ``inputs``: texts, files of pictures, or an array with a row each.

    ``labels``: n, None where one is not known; None altogether where the source has none. ``names``: what to call each
    input in an answer or an error, a text by itself. ``said``: what was guessed and found, one line each,
    for the user to check.
    """

    modality: Modality
    inputs: list[str] | list[Path] | Array
    names: list[str]
    labels: list[Truth | None] | None = None
    said: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Examples":
        """These rows, in this order."""
        places = [int(row) for row in rows]
        if isinstance(self.inputs, np.ndarray):
            inputs: list[str] | list[Path] | Array = self.inputs[places]
        else:
            inputs = [self.inputs[place] for place in places]  # type: ignore[assignment]
        labels = None if self.labels is None else [self.labels[place] for place in places]
        return replace(self, inputs=inputs, names=[self.names[place] for place in places], labels=labels)

    def known_labels(self) -> list[Truth]:
        """A label for each example. Raises WrongUse where there are none, or one is missing."""
        if self.labels is None:
            raise WrongUse("these examples have no labels, and learning needs them")
        for name, label in zip(self.names, self.labels, strict=True):
            if label is None:
                raise WrongUse(f"{shortened(name)} has no label; fill it in, or remove it")
        return [label for label in self.labels if label is not None]


def task_of(labels: Sequence[Truth]) -> Task:
    """What the labels ask for: strings are classes, numbers are values."""
    return "classification" if all(isinstance(label, str) for label in labels) else "regression"


def shortened(text: str) -> str:
    """A text as one short line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"


def listed(names: Sequence[object], most: int = 8) -> str:
    """Names for a message, the first few of them."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown}, ..." if len(names) > most else shown
