"""Several targets on one shared embedding (hard parameter sharing): Caruana, "Multitask Learning", 1997.

Each target of a support gets a head of its own in closed form (:mod:`kshot.learners.ridge`, Bertinetto et al. 2019),
from the rows that have the target. How the shared encoder is trained: :mod:`kshot.training.multitask`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions, Quality
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.embedded import Embedded
from kshot.learners.base import (
    NO_OPTIONS,
    Column,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_supports,
    device_of,
    settings_of,
)
from kshot.learners.batching import embed
from kshot.learners.film import Film, fit_film
from kshot.learners.ridge import Ridge

_RIDGE = Ridge()
_RIDGE_TENSORS = ("log_l2", "log_logit_scale")
_FILM_LR = 0.1
_BYTES_PER_CALL = 1 << 28


class Multitask(Learner):
    """A ridge head per target; a support of a single kind is answered as ``ridge`` answers it.

    Rows whose target is NaN do not count for that target. Manifest options: ``film_steps`` > 0 first adapts a scale
    and a shift of the shared embedding to all targets together (:mod:`kshot.learners.film`), ``film_lr`` its step.
    The quality of each target is the leave-one-out of its head, as exact as ridge's; FiLM has seen the row, so with it
    no figure is called reliable.
    State: those of ridge, for several targets each below the number of its target (``0.weight``); ``film.scale`` and
    ``film.shift`` (d).
    """

    name = "multitask"
    tasks: frozenset[TaskKind] = frozenset({"classification", "regression", "multitask"})
    options = frozenset({"l2"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        kind: TaskKind = "regression" if task == "regression" else "classification"
        return _RIDGE.init_head(encoder, kind, n_targets, generator)

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        """The mean over all targets of all tasks that have rows in both; FiLM counts as a constant (first order).

        Raises Invalid where no target has, and where the head was made for values but a target has classes.
        """
        features = embed(encoder, [s.inputs for s in supports] + list(queries), device_of(encoder, head))
        own, blocks, rows = _ridge_head(head), [], 0
        learned: list[Support] = []
        asked: list[Support] = []
        for i, (support, answers) in enumerate(zip(supports, targets, strict=True)):
            x, q = features[i], features[len(supports) + i]
            parts, asked_parts = _parts(support, rows), _parts(replace(support, targets=answers), rows + len(x))
            film = _film(x, _parts(support, 0), own, options)
            blocks += [film(x), film(q)] if film else [x, q]
            rows += len(x) + len(q)
            both = zip(parts, asked_parts, strict=True)
            pairs = [(part, query) for part, query in both if len(part.targets) and len(query.targets)]
            learned += [part for part, _ in pairs]
            asked += [query for _, query in pairs]
        _check_trainable(learned, own)
        joined = Embedded(torch.cat(blocks))
        return _RIDGE.meta_loss(joined, own, learned, [q.inputs for q in asked], [q.targets for q in asked], options)

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        for support in supports:
            _check_columns(support)
            if support.task == "multitask" and checkpoint.encoder.statistic_names:
                raise Invalid("several targets need a checkpoint whose norms do not adapt", param="checkpoint")
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed(checkpoint.encoder, [support.inputs for support in supports], device)
        own, settings = _ridge_head(checkpoint.head), settings_of(checkpoint, options)
        films = [_film(x, _parts(s, 0), own, settings) for x, s in zip(features, supports, strict=True)]
        starts = np.cumsum([0, *map(len, features)])
        parts = [_parts(support, start) for support, start in zip(supports, starts, strict=False)]
        embedded = torch.cat([film(x) if film else x for x, film in zip(features, films, strict=True)])
        on = _on(checkpoint, embedded, own)
        chunks = _chunks([part for split in parts for part in split], embedded.shape[1])
        heads = (head for chunk in chunks for head in _RIDGE.adapt(on, chunk, options))
        solved = [[next(heads) for _ in split] for split in parts]
        return [_joined(s, own_heads, film) for s, own_heads, film in zip(supports, solved, films, strict=True)]

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        features = embed(checkpoint.encoder, queries, device_of(checkpoint.encoder, checkpoint.head))
        modulated = [_modulated(state, x) for state, x in zip(states, features, strict=True)]
        heads = [_heads(state) for state in states]
        starts = np.cumsum([0, *map(len, features)])
        rows = [start + np.arange(len(x)) for start, x in zip(starts, features, strict=False)]
        asked = [own_rows for split, own_rows in zip(heads, rows, strict=True) for _ in split]
        embedded = _on(checkpoint, torch.cat(modulated), {})
        outputs = iter(_RIDGE.predict(embedded, [head for split in heads for head in split], asked))
        answers = [tuple(next(outputs) for _ in split) for split in heads]
        return [Output(columns=own) if state.columns else own[0] for state, own in zip(states, answers, strict=True)]


def _check_columns(support: Support) -> None:
    """Raises Invalid where a joint support has a target without rows, or without all of its two classes or more."""
    if support.task != "multitask":
        return
    if not support.columns or support.targets.ndim != 2 or support.targets.shape[1] != len(support.columns):
        raise Invalid("a joint support needs a column of labels for each target", param="support.labels")
    for number, (column, values) in enumerate(zip(support.columns, support.targets.T, strict=True), 1):
        present = values[~values.isnan()]
        if len(present) == 0:
            raise Invalid(f"target {number} has no label in any row", param="support.labels")
        if column.n_way is not None and column.n_way < 2:
            raise Invalid(f"target {number} needs examples of two classes or more", param="support.labels")
        if column.n_way is not None and present.unique().tolist() != list(range(column.n_way)):
            raise Invalid(f"every class of target {number} needs at least one example", param="support.labels")


def _check_trainable(learned: Sequence[Support], head: Head) -> None:
    if not learned:
        raise Invalid("no target has labels among both supports and queries")
    if "log_logit_scale" not in head and any(part.n_way is not None for part in learned):
        raise Invalid("this head was made for labels that are numbers, but a target has classes")


def _parts(support: Support, start: int) -> list[Support]:
    """A support for each target, its inputs the numbers of the rows that have the target, counted from ``start``."""
    if support.task != "multitask":
        return [replace(support, inputs=start + np.arange(len(support.targets)))]
    return [_part(column, values, start) for column, values in zip(support.columns, support.targets.T, strict=True)]


def _part(column: Column, values: Tensor, start: int) -> Support:
    present = ~values.isnan()
    targets = values[present].long() if column.kind == "classification" else values[present].unsqueeze(1)
    return Support(column.kind, start + present.cpu().numpy().nonzero()[0], targets, column.n_way)


def _chunks(parts: Sequence[Support], width: int) -> Iterator[list[Support]]:
    """Parts to be solved together: each holds copies of its rows and square matrices, which must fit into memory."""
    chunk: list[Support] = []
    size = 0
    for part in parts:
        n = len(part.targets)
        needed = 8 * (4 * n * width + 6 * min(n, max(width, 512)) ** 2)
        if chunk and size + needed > _BYTES_PER_CALL:
            yield chunk
            chunk, size = [], 0
        chunk.append(part)
        size += needed
    if chunk:
        yield chunk


def _ridge_head(head: Head) -> dict[str, Tensor]:
    """What ridge may have meta-learned, of a checkpoint of any learner."""
    return {name: head[name] for name in _RIDGE_TENSORS if name in head}


def _on(checkpoint: Checkpoint, embeddings: Tensor, head: Head) -> Checkpoint:
    return Checkpoint(checkpoint.manifest, Embedded(embeddings), dict(head))


def _film(x: Tensor, parts: Sequence[Support], head: Head, options: Mapping[str, Any]) -> Film | None:
    steps = int(options.get("film_steps", 0))
    return fit_film(x, parts, head, steps, float(options.get("film_lr", _FILM_LR))) if steps else None


def _joined(support: Support, heads: Sequence[State], film: Film | None) -> State:
    """One state of a task's heads."""
    tensors = {} if film is None else {"film.scale": film.scale, "film.shift": film.shift}
    qualities = tuple(head.quality if film is None else _doubted(head.quality) for head in heads)
    if support.task != "multitask":
        return replace(heads[0], tensors={**heads[0].tensors, **tensors}, quality=qualities[0])
    for number, head in enumerate(heads):
        tensors |= {f"{number}.{name}": tensor for name, tensor in head.tensors.items()}
    return State("multitask", None, tensors, None, support.columns, qualities)


def _doubted(quality: Quality | None) -> Quality | None:
    return None if quality is None else quality.model_copy(update={"reliable": False})


def _heads(state: State) -> list[State]:
    """The states of ridge that :func:`_joined` put together."""
    if not state.columns:
        return [state]
    found = []
    for number, column in enumerate(state.columns):
        prefix = f"{number}."
        own = {name.removeprefix(prefix): t for name, t in state.tensors.items() if name.startswith(prefix)}
        found.append(State(column.kind, column.n_way, own))
    return found


def _modulated(state: State, x: Tensor) -> Tensor:
    return Film(state.tensors["film.scale"], state.tensors["film.shift"])(x) if "film.scale" in state.tensors else x
