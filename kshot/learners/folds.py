"""Quality by adapting again without a part of the support, for learners without an exact leave-one-out.

All parts of all tasks are further tasks of one batch. Which rows go together depends on what is in them alone, not on
their order or on the names of classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import Quality
from kshot.contracts.wire import Array, Inputs
from kshot.encoders.embedded import Embedded
from kshot.learners.base import Output, State, Support, check_finite, device_of
from kshot.learners.batching import embed
from kshot.learners.quality import accuracy_quality, mse_quality

MOST_FOLDS = 5
STAYS = -1

Adapt = Callable[[Sequence[Support]], list[State]]
Predict = Callable[[Sequence[State], Sequence[Inputs]], list[Output]]
AdaptOn = Callable[[Checkpoint, Sequence[Support]], list[State]]
PredictOn = Callable[[Checkpoint, Sequence[State], Sequence[Inputs]], list[Output]]


def adapt_with_folds(
    adapt: Adapt, predict: Predict, supports: Sequence[Support], folds: Sequence[Array]
) -> list[State]:
    """The state of each task with its quality, by one call of ``adapt``: on the supports and on each without a fold.

    ``folds``: for each support what :func:`fold_numbers` says. Costs up to ``MOST_FOLDS`` + 1 times ``adapt``. Raises
    AdaptationFailed where a state is not finite; where only an answer to a fold is not, there is no quality.
    """
    parts = [(task, fold) for task, numbers in enumerate(folds) for fold in range(numbers.max(initial=STAYS) + 1)]
    states = adapt([*supports, *(_rows(supports[task], folds[task] != fold) for task, fold in parts)])
    left_out = [_rows(supports[task], folds[task] == fold).inputs for task, fold in parts]
    answers = [torch.zeros(len(support.targets), support.n_outputs) for support in supports]
    outputs = predict(states[len(supports) :], left_out) if parts else []
    for (task, fold), output in zip(parts, outputs, strict=True):
        answers[task][torch.from_numpy(folds[task] == fold)] = _answer(output)
    own = check_finite(states[: len(supports)])
    qualities = map(_quality, supports, answers, folds)
    return [replace(state, quality=quality) for state, quality in zip(own, qualities, strict=True)]


def adapt_and_judge(
    adapt: AdaptOn, predict: PredictOn, checkpoint: Checkpoint, supports: Sequence[Support], *, encoder_stays: bool
) -> list[State]:
    """:func:`adapt_with_folds` with the usual folds. Where the encoder stays as it is, each row is embedded once."""
    known, own = embedded(checkpoint, supports) if encoder_stays else (checkpoint, supports)
    return adapt_with_folds(
        lambda parts: adapt(known, parts),
        lambda states, queries: predict(known, states, queries),
        own,
        [fold_numbers(support) for support in supports],
    )


def fold_numbers(support: Support) -> Array:
    """The fold (n,) in which each row is left out, from 0; ``STAYS`` for the only row of a class, and for a lone row.

    Each class is spread evenly, so that none ever vanishes. Up to ``MOST_FOLDS`` rows each have a fold of their own.
    """
    keys = [_content(row, target) for row, target in zip(support.inputs, _told(support), strict=True)]
    if support.n_way is None:
        classes = [sorted(range(len(keys)), key=keys.__getitem__)]
    else:
        rows = [np.flatnonzero(support.targets.cpu().numpy() == k).tolist() for k in range(support.n_way)]
        classes = [sorted(own, key=keys.__getitem__) for own in rows]
        classes.sort(key=lambda own: [keys[row] for row in own])
    in_turn = [row for own in classes if len(own) > 1 for row in own]
    numbers = np.full(len(keys), STAYS)
    numbers[in_turn] = np.arange(len(in_turn)) % MOST_FOLDS
    return numbers


def embedded(checkpoint: Checkpoint, supports: Sequence[Support]) -> tuple[Checkpoint, list[Support]]:
    """The supports by the numbers of their rows, and a checkpoint whose encoder knows those: each is embedded once."""
    device = device_of(checkpoint.encoder, checkpoint.head)
    features = embed(checkpoint.encoder, [support.inputs for support in supports], device)
    numbers = np.split(np.arange(sum(map(len, features))), np.cumsum([len(x) for x in features])[:-1])
    known = Checkpoint(checkpoint.manifest, Embedded(torch.cat(features)).eval(), checkpoint.head)
    return known, [replace(support, inputs=rows) for support, rows in zip(supports, numbers, strict=True)]


def _told(support: Support) -> list[bytes]:
    """What a row's target adds to its content: values do, names of classes do not."""
    if support.n_way is not None:
        return [b""] * len(support.targets)
    return [row.tobytes() for row in support.targets.cpu().numpy()]


def _content(row: str | Array, target: bytes) -> bytes:
    content = row.encode() if isinstance(row, str) else np.ascontiguousarray(row).tobytes()
    return sha256(content).digest() + target


def _rows(support: Support, chosen: Array) -> Support:
    inputs = support.inputs
    own = [inputs[row] for row in np.flatnonzero(chosen)] if isinstance(inputs, list) else inputs[chosen]
    return replace(support, inputs=own, targets=support.targets[torch.from_numpy(chosen).to(support.targets.device)])


def _answer(output: Output) -> Tensor:
    answer = output.values if output.logits is None else output.logits
    assert answer is not None
    return answer.detach().cpu().float()


def _quality(support: Support, answers: Tensor, numbers: Array) -> Quality | None:
    if not bool(answers.isfinite().all()):
        return None
    left_out, targets = torch.from_numpy(numbers != STAYS), support.targets.cpu()
    folds = int(numbers.max(initial=STAYS)) + 1
    told = folds if folds < int(left_out.sum()) else None
    if support.n_way is not None:
        return accuracy_quality(answers, targets, left_out, told)
    return mse_quality(answers - targets, told, targets=targets)
