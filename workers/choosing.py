"""Which checkpoint a task runs with, where its caller left that open (`auto`)."""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor

import structlog

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import KshotError, NotFound
from kshot.contracts.selection import Candidate, Considered, Selection
from kshot.inputs import input_shape
from kshot.learners.base import Support
from kshot.relations.choice import Choice, choose
from kshot.storage.results import Chosen
from workers.cold import Damaged
from workers.decoding import decided_work
from workers.executing import as_support
from workers.models import Models
from workers.work import Failed, Work

_GONE = "its weights could not be loaded"

_log = structlog.get_logger()


async def decide(work: Work, models: Models, torch_thread: Executor) -> Work | Failed:
    """The same work with a checkpoint chosen among its candidates.

    The same support and candidates give the same choice, so a task that is claimed again ends as it would have.
    """
    started = time.monotonic()
    try:
        loaded, gone = await _load(work.payload.candidates, models)
        choice = await asyncio.get_running_loop().run_in_executor(torch_thread, _choose, work, loaded)
    except Exception as error:
        if not isinstance(error, KshotError):
            _log.error("choice_failed", request_id=work.request_id, exc_info=error)
        return Failed(work.origin, error)
    candidate = loaded[choice.index][0]
    selection = _selection([one for one, _ in loaded], choice, gone)
    shape = input_shape(_support_of(work, candidate).inputs)
    return decided_work(work, candidate, Chosen(candidate.checkpoint, candidate.learner, shape, selection), started)


async def _load(
    candidates: Sequence[Candidate], models: Models
) -> tuple[list[tuple[Candidate, Checkpoint]], list[Candidate]]:
    """The candidates that can be loaded, and those that cannot. Raises Damaged where none can; OSError."""
    loaded, gone = [], []
    for candidate in candidates:
        try:
            loaded.append((candidate, await models.checkpoint(candidate.checkpoint.id)))
        except (Damaged, NotFound) as error:
            _log.error("candidate_not_loaded", checkpoint=candidate.checkpoint.id, exc_info=error)
            gone.append(candidate)
    if not loaded:
        raise Damaged("none of the candidates can be loaded")
    return loaded, gone


def _choose(work: Work, loaded: Sequence[tuple[Candidate, Checkpoint]]) -> Choice:
    supports = [_support_of(work, candidate) for candidate, _ in loaded]
    return choose([checkpoint for _, checkpoint in loaded], supports)


def _support_of(work: Work, candidate: Candidate) -> Support:
    support = work.payload.of(candidate).support
    assert support is not None
    return as_support(support)


def _selection(loaded: Sequence[Candidate], choice: Choice, gone: Sequence[Candidate]) -> Selection:
    considered = [
        Considered(
            checkpoint=candidate.checkpoint,
            leave_one_out=_finite(found.leave_one_out),
            log_likelihood=_finite(found.log_likelihood),
            knn=_finite(found.knn),
            logme=_finite(found.logme),
            score=_finite(found.score),
            note=found.note,
        )
        for candidate, found in zip(loaded, choice.considered, strict=True)
    ]
    missing = [Considered(checkpoint=candidate.checkpoint, note=_GONE) for candidate in gone]
    reason = choice.reason
    if gone:
        reason += f" ({len(gone)} more could not be loaded)"
    return Selection(considered=(*considered, *missing), reason=reason, reliable=choice.reliable)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
