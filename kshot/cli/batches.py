"""Inputs in as many requests as the service's limits ask for."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kshot.cli.printing import counting
from kshot.cli.scoring import Answer
from kshot.cli.sources.examples import NOUNS, Examples, Modality, shortened
from kshot.contracts.api import Limits
from kshot.contracts.errors import Invalid, KshotError, TooLarge

_AROUND = 64 * 1024
"""Bytes of a body besides its inputs."""
_BASE64 = 4 / 3
_MOST: dict[Modality, int] = {"image": 64, "text": 1000, "vector": 5000}
"""Of one predict call: what a slow processor answers in seconds, so that the bar moves and no deadline passes."""
_PLACE = re.compile(r"^(?:support\.inputs|query\.inputs|query|inputs)\[(\d+)\]$")
Ask = Callable[[Examples], list[Answer]]


def batches(examples: Examples, most_rows: int, limits: Limits) -> Iterator[Examples]:
    """The examples in order, in parts of at most so many rows and of what fits into one body."""
    room = limits.max_body_bytes - _AROUND
    rows: list[int] = []
    taken = 0.0
    for row, size in enumerate(_sizes(examples)):
        if rows and (len(rows) == most_rows or taken + size > room):
            yield examples.take(rows)
            rows, taken = [], 0.0
        rows.append(row)
        taken += size
    if rows:
        yield examples.take(rows)


def answers_to(examples: Examples, ask: Ask, limits: Limits) -> list[Answer]:
    """An answer for each input, with a bar on stderr. Raises KshotError, naming the input at fault."""
    answers: list[Answer] = []
    with counting(NOUNS[examples.modality]) as bar:
        task = bar.add_task("predicting", total=len(examples))
        for batch in batches(examples, min(limits.max_query, _MOST[examples.modality]), limits):
            answers += _ask(batch, ask)
            bar.update(task, completed=len(answers))
    return answers


def naming(error: KshotError, examples: Examples) -> KshotError:
    """The error, of one input by its place, with what that input is called here."""
    place = _PLACE.match(error.param or "")
    if place is not None and int(place[1]) < len(examples):
        error.message, error.param = f"{shortened(examples.names[int(place[1])])}: {error.message}", None
    return error


def _ask(batch: Examples, ask: Ask) -> list[Answer]:
    """A batch; in halves where it is too much for the service by a limit that its size here does not tell (pixels)."""
    try:
        return ask(batch)
    except KshotError as error:
        together = isinstance(error, TooLarge) or (isinstance(error, Invalid) and error.param == "inputs")
        if not together or len(batch) == 1:
            raise naming(error, batch) from None
    middle = len(batch) // 2
    return _ask(batch.take(range(middle)), ask) + _ask(batch.take(range(middle, len(batch))), ask)


def _sizes(examples: Examples) -> list[float]:
    """Bytes that each input takes in a body."""
    if isinstance(examples.inputs, np.ndarray):
        row = examples.inputs[0].nbytes * (_BASE64 if examples.modality == "image" else 1)
        return [row] * len(examples)
    return [_size(one) for one in examples.inputs]


def _size(one: Any) -> float:
    return one.stat().st_size * _BASE64 if isinstance(one, Path) else len(orjson.dumps(one))
