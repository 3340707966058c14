"""Which checkpoint suits a support best, by leave-one-out on the support itself and by what each manifest tells.

The score of a candidate is in nats per example, more is better. For classes

    score = (n * evidence + m * expectation) / (n + m) + logme / 10,   m = 3

    evidence    = log a(ridge) + log a(nearest) / 2, with a = (n * accuracy + 1) / (n + 2) of leaving each row out
    expectation = log of the accuracy its evaluation table promises - 2 * (strangeness - 0.2), if that is positive

with n the rows that can be left out. Where every class has one example n is 0, and the manifest and LogME decide. For
numbers, evidence = -log(mse / variance) / 2 of ridge, half as much again of the nearest neighbours, and no expectation.

A table promises the mean of its inductive rows that are most like the task. A candidate without one is expected to lose
a third more nats than the worst promise among the others: what nobody measured is more often worse than better, but is
held to what these others do. At equal terms LogME alone would pick an untrained encoder of texts (one example a class).

An encoder whose norms belong to the task (``statistic_names``) has no embedding before it adapts, and what its table
promises of its own data says nothing of these: such a candidate is passed over, unless there is no other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

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
_UNMEASURED = 4 / 3
_LEAST_ACCURACY = 0.01
_WAYS_POWER = 2 / 3  # nats lost grow so with the number of rivals, measured from 5 to 20 ways on our own checkpoints
_LEAST_MSE = 1e-6  # of the variance
_Z = 1.96
_ENOUGH_ROWS = 20  # below, likelihoods alone tell no candidates apart that give as many right answers
_PASSED_OVER = "its encoder can only be judged by adapting"
_FAILED = "it gives no finite figures for these examples"


@dataclass(frozen=True)
class Considered:
    """What was found out about one candidate. ``leave_one_out``: accuracy, or mean squared error, of the ridge head.

    ``log_likelihood``: of its answers, nats per row. ``knn``: the same figure as ``leave_one_out`` of the nearest
    neighbour. None where no row can be left out. ``score``: what the choice goes by, see the module's head; None where
    the candidate cannot be judged. ``note``: why it was passed over.
    """

    leave_one_out: float | None
    log_likelihood: float | None
    knn: float | None
    logme: float | None
    score: float | None
    note: str | None = None


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
    """``left_out``: of each target, None where it has no row that can be left out; the same rows for all candidates.

    ``failed``: not even to be chosen where there is no other.
    """

    considered: Considered
    left_out: tuple[LeftOut | None, ...] = ()
    failed: bool = False


@torch.no_grad()
def choose(candidates: Sequence[Checkpoint], supports: Sequence[Support]) -> Choice:
    """The best of at least one candidate. ``supports[i]``: the same examples in the canonical form of candidate i.

    Several targets (kind ``multitask``) are judged one by one, and their scores averaged. A candidate that fails is
    noted and passed over. Raises Invalid without candidates, and where all fail.
    """
    if not candidates or len(candidates) != len(supports):
        raise Invalid("no checkpoint to choose from")
    manifests = [checkpoint.manifest for checkpoint in candidates]
    judged = [_judge_alone(*pair, manifests) for pair in zip(candidates, supports, strict=True)]
    left = [i for i, each in enumerate(judged) if not each.failed]
    if not left:
        raise Invalid("no checkpoint gives finite figures for these examples", param="support.inputs")
    index = max(left, key=lambda i: _rank(manifests[i], supports[i], judged[i].considered.score))
    reliable, reason = _explain(
        [manifests[i] for i in left], supports[index], [judged[i] for i in left], left.index(index)
    )
    if len(left) < len(judged):
        reason += f" ({len(judged) - len(left)} more failed on these examples)"
    considered = [each.considered for each in judged]
    considered[index] = replace(considered[index], note=None)
    return Choice(index, tuple(considered), reason, reliable)


def _judge_alone(checkpoint: Checkpoint, support: Support, manifests: Sequence[Manifest]) -> _Judged:
    """One candidate's failure is no other's."""
    try:
        judged = _judge(checkpoint, support, manifests)
    except (Invalid, torch.linalg.LinAlgError, ArithmeticError, ValueError):  # type: ignore[attr-defined]
        return _Judged(Considered(None, None, None, None, None, _FAILED), failed=True)
    score = judged.considered.score
    if score is not None and not math.isfinite(score):
        return _Judged(replace(judged.considered, score=None, note=_FAILED), failed=True)
    return judged


def _judge(checkpoint: Checkpoint, support: Support, manifests: Sequence[Manifest]) -> _Judged:
    if checkpoint.encoder.statistic_names:
        return _Judged(Considered(None, None, None, None, None, _PASSED_OVER))
    (x,) = embed(checkpoint.encoder, [support.inputs], device_of(checkpoint.encoder, checkpoint.head))
    x = x.cpu()
    if support.task != "multitask":
        return _judge_one(checkpoint.manifest, support, x, manifests)
    parts = [_judge_one(checkpoint.manifest, part, x[rows], manifests) for part, rows in _parts(support)]
    return _Judged(
        _averaged([part.considered for part in parts]), tuple(one for part in parts for one in part.left_out)
    )


def _judge_one(manifest: Manifest, support: Support, x: Tensor, manifests: Sequence[Manifest]) -> _Judged:
    left_out, nearest, evidence = ridge_left_out(support, x), knn_left_out(support, x), logme(support, x)
    expected = 0.0 if support.n_way is None else _expectation(manifest, support, x, manifests)
    considered = Considered(
        leave_one_out=left_out.score if left_out else None,
        log_likelihood=left_out.log_likelihood if left_out else None,
        knn=nearest,
        logme=evidence,
        score=_score(support, expected, left_out, nearest) + _LOGME_SHARE * evidence,
    )
    return _Judged(considered, (left_out,))


def _rank(manifest: Manifest, support: Support, score: float | None) -> tuple[bool, float]:
    """Whoever can be judged comes before whoever cannot; among the latter only promises are left to go by."""
    if score is not None:
        return True, score
    promised = None if support.n_way is None else _promised_nats(manifest, support.n_way, _shots(support))
    return False, -math.inf if promised is None else promised


def _score(support: Support, expected: float, left_out: LeftOut | None, nearest: float | None) -> float:
    if left_out is None or nearest is None:
        return expected
    if support.n_way is None:
        return _value_nats(support, left_out.score, nearest)
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


def _expectation(manifest: Manifest, support: Support, x: Tensor, manifests: Sequence[Manifest]) -> float:
    """Nats per example that the manifest lets expect of this number of ways and shots, among those of all candidates.

    Where no candidate has a table it is 0: a promise decides only among several.
    """
    assert support.n_way is not None
    promised = _promised_nats(manifest, support.n_way, _shots(support))
    if promised is None:
        others = [_promised_nats(other, support.n_way, _shots(support)) for other in manifests]
        promised = _UNMEASURED * min((nats for nats in others if nats is not None), default=0.0)
    if manifest.signature is None:
        return promised
    strange = strangeness(manifest.signature, x, support.targets)
    return promised - _PER_STRANGENESS * max(strange - _STRANGE, 0.0)


def _promised_nats(manifest: Manifest, n_way: int, k_shot: float) -> float | None:
    """log accuracy by the rows of the evaluation table most like the task, carried over to its ways; None without."""
    far: dict[float, list[float]] = {}
    for row in manifest.evaluation:
        if row.metric == "accuracy" and row.inductive and row.n_way is not None and row.n_way > 1:
            more_rivals: float = (max(n_way - 1, 1) / (row.n_way - 1)) ** _WAYS_POWER
            distance = round(_unlike(row.n_way, n_way) + _unlike(row.k_shot, k_shot), 9)  # 1/2 as far as 2/1
            far.setdefault(distance, []).append(more_rivals * math.log(max(row.mean, _LEAST_ACCURACY)))
    return fmean(far[min(far)]) if far else None


def _shots(support: Support) -> float:
    return len(support.targets) / support.n_outputs


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
    scores = [part.score for part in parts if part.score is not None]
    return Considered(None, None, None, None, fmean(scores) if scores else 0.0)


def _explain(
    manifests: Sequence[Manifest], support: Support, judged: Sequence[_Judged], index: int
) -> tuple[bool, str]:
    """Whether the support itself tells the chosen one from the rest, and a sentence that says what decided."""
    name = manifests[index].name
    known = [i for i, each in enumerate(judged) if each.considered.score is not None]
    if len(judged) == 1:
        return False, f"{name} is the only checkpoint that takes these inputs: there was nothing to compare it with"
    if not known:
        return False, f"no candidate can be judged without adapting: {name} by its manifest alone"
    if len(known) == 1:
        return False, f"{name} is the only candidate that can be judged without adapting"
    more = len(judged) - len(known)
    others = [judged[i].left_out for i in known if i != index]
    reliable, reason = _compared(name, support, judged[index].left_out, others)
    return reliable, f"{reason} ({more} more can only be judged by adapting)" if more else reason


def _compared(
    name: str,
    support: Support,
    own: tuple[LeftOut | None, ...],
    others: Sequence[tuple[LeftOut | None, ...]],
) -> tuple[bool, str]:
    counts = ", ".join(str(one.n if one else 0) for one in own)
    over = f" over {len(own)} targets (rows left out: {counts})" if support.task == "multitask" else ""
    if not any(own):
        classes = support.n_way is not None or any(column.n_way is not None for column in support.columns)
        by = "its manifest, the kind of inputs and LogME" if classes else "LogME"
        return False, f"too few examples to leave any out: {name}{over} by {by} alone"
    if all(_surely_better(own, other) for other in others):
        return True, f"{name} answers left-out examples better than every other candidate{over}"
    return False, f"{name} scores best{over}, but the support is too small to tell it from every other candidate"


def _surely_better(own: Sequence[LeftOut | None], other: Sequence[LeftOut | None]) -> bool:
    """Whether the log-likelihoods of the same rows differ by more than 1.96 standard errors.

    With several targets: of the mean gain over those with rows. Their errors are added up as if all went wrong together
    (the rows are the same), which claims no more than is known. From fewer than 20 rows right answers must differ too.
    """
    pairs = [(one, two) for one, two in zip(own, other, strict=True) if one and two]
    if all(one.score == two.score and one.n < _ENOUGH_ROWS for one, two in pairs):
        return False
    gains = [one.rows - two.rows for one, two in pairs]
    if any(len(gain) < 2 for gain in gains):
        return False
    errors = [float(gain.std()) / math.sqrt(len(gain)) for gain in gains]
    return fmean(float(gain.mean()) for gain in gains) > _Z * fmean(errors)
