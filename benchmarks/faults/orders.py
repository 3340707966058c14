"""Requests that can be written again from a few words: support sets and queries drawn from a seed."""

import base64
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

Rows = tuple[list[Any], list[Any]]
WIDTH = 8
_WORDS = ["card", "late", "refund", "lost", "stolen", "transfer", "cash", "limit", "pin", "fee", "rate", "exchange"]


@dataclass(frozen=True)
class Order:
    """An adaptation to ask for.

    ``number``: its own; it travels as metadata, so that a model tells which order made it. ``form``: what the examples
    are and which checkpoint and learner take them. ``twin``: its examples and labels are those that other tenants send
    as well; the labels of the others name the tenant. ``key``: its idempotency key. ``parent``: the model that it adds
    examples to.
    """

    number: int
    tenant: str
    form: str
    seed: int
    twin: bool = False
    with_query: bool = True
    key: str | None = None
    parent: str | None = None

    def support(self) -> Rows:
        """Inputs and labels."""
        return FORMS[self.form].rows(self.seed, "any" if self.twin else self.tenant)

    def inputs(self, salt: int, count: int = 3) -> list[Any]:
        """Queries like the examples."""
        rows, _ = FORMS[self.form].rows(self.seed * 1000 + salt + 1, "query")
        return rows[:count]

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        form = FORMS[self.form]
        rows, labels = self.support()
        body: dict[str, Any] = {
            "support": {"inputs": rows, "labels": labels},
            "metadata": {"order": self.number, "owner": self.tenant},
        }
        if self.parent is None:
            body |= {"checkpoint": form.checkpoint, "options": form.options, "follow": form.follow}
        if self.with_query:
            body["query"] = {"inputs": self.inputs(0)}
        return body

    def grown(self, number: int, parent: str, key: str | None) -> "Order":
        """More examples for the model it made."""
        return replace(self, number=number, seed=self.seed + 500_000 + number, key=key, parent=parent, twin=False)

    def plain(self) -> dict[str, Any]:
        """For the ledger; ``Order(**plain)`` is this order again."""
        return asdict(self)


@dataclass(frozen=True)
class Form:
    """A kind of examples. ``rows``: inputs and labels of a seed, labels marked with a word."""

    checkpoint: str
    rows: Callable[[int, str], Rows]
    options: dict[str, Any]
    follow: bool = False


def _vectors(seed: int, mark: str, k_shot: int = 3, n_way: int = 3) -> Rows:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_way, WIDTH)) * 3
    targets = np.repeat(np.arange(n_way), k_shot)
    rows = centres[targets] + rng.normal(size=(len(targets), WIDTH))
    return rows.round(4).tolist(), [f"{mark}-{k}" for k in targets]


def _numbers(seed: int, mark: str) -> Rows:
    rows, _ = _vectors(seed, mark)
    return rows, [round(sum(row), 4) for row in rows]


def _waves(seed: int, mark: str) -> Rows:
    rng = np.random.default_rng(seed)
    at, phase = rng.uniform(-5, 5, size=10).round(4), rng.uniform(0, 3)
    return [[x] for x in at.tolist()], np.sin(at + phase).round(4).tolist()


def _joint(seed: int, mark: str) -> Rows:
    rows, labels = _vectors(seed, mark)
    return rows, [{"kind": label, "size": round(row[0], 4)} for row, label in zip(rows, labels, strict=True)]


def _pictures(seed: int, mark: str) -> Rows:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (4, 28, 28), dtype=np.uint8)
    return [_png(one) for one in pixels], [f"{mark}-{k // 2}" for k in range(4)]


def _png(pixels: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _texts(seed: int, mark: str) -> Rows:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_WORDS, 5)) for _ in range(6)], [f"{mark}-{k // 3}" for k in range(6)]


def _many(seed: int, mark: str) -> Rows:
    return _vectors(seed, mark, k_shot=300)


FORMS = {
    "near": Form("near", _vectors, {}),
    "plain": Form("plain", _vectors, {}),
    "matching": Form("near", _vectors, {"learner": "matching"}),
    "numbers": Form("plain", _numbers, {}),
    "joint": Form("plain", _joint, {}),
    "steps": Form("steps", _vectors, {"inner_steps": 5, "inner_lr": 0.01}),
    "slow": Form("steps", _many, {"inner_steps": 50, "inner_lr": 0.001}),
    "pictures": Form("drawings", _pictures, {}),
    "words": Form("words", _texts, {}),
    "auto": Form("auto", _vectors, {}),
    "waves": Form("waves", _waves, {}, follow=True),
}
