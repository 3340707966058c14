"""Which checkpoint suits a support best, by leave-one-out on the support itself and by what each manifest tells.

The score of a candidate is in nats per example, more is better. For classes

    score = (n * evidence + m * expectation) / (n + m) + logme / 10,   m = 3

    evidence    = log a(ridge) + log a(nearest) / 2, with a = (n * accuracy + 1) / (n + 2) of leaving each row out
    expectation = log of the accuracy its evaluation table promises - 2 * (strangeness - 0.2), if that is positive

with n the rows that can be left out. Where every class has one example n is 0, and the manifest alone decides. For
numbers, evidence = -log(mse / variance) / 2 of ridge, half as much again of the nearest neighbours, and no expectation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import Invalid
from kshot.learners.base import Support, device_of
from kshot.learners.batching import embed
from kshot.relations.evidence import LeftOut, knn_left_out, logme, ridge_left_out
from kshot.relations.signature import strangeness

_EXPECTED_ROWS = 3.0
_KNN_SHARE, _LOGME_SHARE = 0.5, 0.1
_STRANGE, _PER_STRANGENESS = 0.2, 2.0
_UNKNOWN = 0.78  # of 5 ways, where the evaluation table is empty: what a checkpoint made for anything gets
_LEAST_ACCURACY = 0.01
_WAYS_POWER = 2 / 3  # nats lost grow so with the number of rivals, measured from 5 to 20 ways on our own checkpoints
_LEAST_MSE = 1e-6  # of the variance
_Z = 1.96


@dataclass(frozen=True)
class Considered:
    """What was found out about one candidate. ``leave_one_out``: accuracy, or mean squared error, of the ridge head.

    ``log_likelihood``: of its answers, nats per row. ``knn``: the same figure as ``leave_one_out`` of the nearest
    neighbour. None where no row can be left out. ``score``: what the choice goes by, see the module's head.
    """

    leave_one_out: float | None
    log_likelihood: float | None
    knn: float | None
    logme: float | None
    score: float


@dataclass(frozen=True)
class Choice:
    """``index`` of the candidate with the highest score; ``reliable`` where the support itself tells it from the rest.

    ``considered``: in the candidates' order. ``reason``: a sentence for the caller.
    """

    index: int
    considered: tuple[Considered, ...]
    reason: str
    reliable: bool


@dataclass(frozen=True)
class _Judged:
    considered: Considered
    left_out: LeftOut | None


@torch.no_grad()
def choose(candidates: Sequence[Checkpoint], supports: Sequence[Support]) -> Choice:
    """The best of at least one candidate. ``supports[i]``: the same examples in the canonical form of candidate i.

    Several targets (kind ``multitask``) are judged one by one, and their scores averaged. Raises Invalid without
    candidates.
    """
    if not candidates or len(candidates) != len(supports):
        raise Invalid("no checkpoint to choose from")
    judged = [_judge(checkpoint, support) for checkpoint, support in zip(candidates, supports, strict=True)]
    considered = tuple(each.considered for each in judged)
    index = max(range(len(judged)), key=lambda i: considered[i].score)
    reliable, reason = _explain(candidates, judged, index)
    return Choice(index, considered, reason, reliable)


def _judge(checkpoint: Checkpoint, support: Support) -> _Judged:
    (x,) = embed(checkpoint.encoder, [support.inputs], device_of(checkpoint.encoder, checkpoint.head))
    x = x.cpu()
    if support.task != "multitask":
        return _judge_one(checkpoint.manifest, support, x)
    parts = [_judge_one(checkpoint.manifest, part, x[rows]) for part, rows in _parts(support)]
    return _Judged(_averaged([part.considered for part in parts]), None)


def _judge_one(manifest: Manifest, support: Support, x: Tensor) -> _Judged:
    left_out, nearest, evidence = ridge_left_out(support, x), knn_left_out(support, x), logme(support, x)
    score = _score(manifest, support, x, left_out, nearest) + _LOGME_SHARE * evidence
    considered = Considered(
        leave_one_out=left_out.score if left_out else None,
        log_likelihood=left_out.log_likelihood if left_out else None,
        knn=nearest,
        logme=evidence,
        score=score,
    )
    return _Judged(considered, left_out)


def _score(manifest: Manifest, support: Support, x: Tensor, left_out: LeftOut | None, nearest: float | None) -> float:
    if support.n_way is None:
        return 0.0 if left_out is None or nearest is None else _value_nats(support, left_out.score, nearest)
    expected = _expectation(manifest, support, x)
    if left_out is None or nearest is None:
        return expected
    n = left_out.n
    evidence = _class_nats(left_out.score, n) + _KNN_SHARE * _class_nats(nearest, n)
    return (n * evidence + _EXPECTED_ROWS * expected) / (n + _EXPECTED_ROWS)


def _class_nats(accuracy: float, n: int) -> float:
    """log of an accuracy over n rows, one right and one wrong answer added (Laplace): finite, and sure only if n is."""
    return math.log((n * accuracy + 1) / (n + 2))


def _value_nats(support: Support, mse: float, nearest_mse: float) -> float:
    variance = max(float(support.targets.double().var(0, correction=0).mean()), _LEAST_MSE)
    own, near = (-0.5 * math.log(max(error / variance, _LEAST_MSE)) for error in (mse, nearest_mse))
    return own + _KNN_SHARE * near


def _expectation(manifest: Manifest, support: Support, x: Tensor) -> float:
    """Nats per example that the manifest lets expect of this number of ways and shots."""
    assert support.n_way is not None
    promised = _promised_nats(manifest, support.n_way, len(support.targets) / support.n_way)
    if manifest.signature is None:
        return promised
    strange = strangeness(manifest.signature, x, support.targets)
    return promised - _PER_STRANGENESS * max(strange - _STRANGE, 0.0)


def _promised_nats(manifest: Manifest, n_way: int, k_shot: float) -> float:
    """log accuracy by the row of the evaluation table that is most like the task, carried over to its ways."""
    rows = [row for row in manifest.evaluation if row.metric == "accuracy" and (row.n_way or 0) > 1]
    ways, accuracy = 5, _UNKNOWN
    if rows:
        nearest = min(rows, key=lambda row: _unlike(row.n_way or 2, n_way) + _unlike(row.k_shot, k_shot))
        ways, accuracy = nearest.n_way or 2, nearest.mean
    more_rivals: float = (max(n_way - 1, 1) / (ways - 1)) ** _WAYS_POWER
    return more_rivals * math.log(max(accuracy, _LEAST_ACCURACY))


def _unlike(a: float, b: float) -> float:
    return abs(math.log(a / b))


def _parts(support: Support) -> list[tuple[Support, Tensor]]:
    """A task of one target for each of several, with the rows (n,) that have it; its classes are counted anew."""
    found = []
    for place, column in enumerate(support.columns):
        targets = support.targets[:, place]
        rows = ~targets.isnan()
        known = targets[rows]
        if len(known) == 0:
            continue
        if column.kind == "classification":
            classes, labels = torch.unique(known.long(), return_inverse=True)
            found.append((Support("classification", [], labels, len(classes)), rows))
        else:
            found.append((Support("regression", [], known.unsqueeze(1)), rows))
    return found


def _averaged(parts: Sequence[Considered]) -> Considered:
    """Mean scores over targets; the figures are left out: an accuracy and a squared error have no mean."""
    return Considered(None, None, None, None, sum(part.score for part in parts) / max(len(parts), 1))


def _explain(candidates: Sequence[Checkpoint], judged: Sequence[_Judged], index: int) -> tuple[bool, str]:
    name, own = candidates[index].manifest.name, judged[index].left_out
    if len(judged) == 1:
        return True, f"{name} is the only checkpoint that takes these inputs"
    if own is None:
        return False, f"too few examples to leave any out: {name} by its manifest and the kind of inputs alone"
    if all(_surely_better(own, other.left_out) for i, other in enumerate(judged) if i != index):
        return True, f"{name} answers left-out examples better than every other candidate"
    return False, f"{name} scores best, but the support is too small to tell it from every other candidate"


def _surely_better(own: LeftOut, other: LeftOut | None) -> bool:
    """Whether the log-likelihoods of the same rows differ by more than 1.96 standard errors."""
    if other is None or own.n != other.n or own.n < 2:
        return False
    gain = own.rows - other.rows
    return float(gain.mean()) > _Z * float(gain.std()) / math.sqrt(own.n)
