"""The end of an adaptation: the state is stored, one transaction makes it count, then the reply goes out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import KshotError
from kshot.contracts.tasks import Failure, Reply
from kshot.storage import tasks
from kshot.storage.completing import complete_all, is_ordinary
from kshot.storage.objects import state_keys
from kshot.storage.results import NewResult
from kshot.storage.revisions import Replayed, complete_replay, fail_replay
from kshot.storage.tasks import Claim
from workers.leases import Leases
from workers.models import Models
from workers.patience import is_away, patiently
from workers.stack import Stack
from workers.storing import store_states
from workers.work import Adapted, Failed, Outcome, Solved

INTERNAL = Failure(code=KshotError.code, message="something went wrong on our side; try again")

_log = structlog.get_logger()


@dataclass(frozen=True)
class Ending:
    """How one claim ends: with a result (and the work it came from), or with a failure."""

    claim: Claim
    solved: Solved | None = None
    result: NewResult | None = None
    failure: Failure | None = None

    @property
    def is_ordinary(self) -> bool:
        """Whether it may be written down in one statement with its neighbours."""
        return self.result is not None and is_ordinary(self.claim, self.result)


class Settler:
    """Ends claims. Whatever it is that is away, a claim is completed later, given back, or left to its lease."""

    def __init__(self, stack: Stack, models: Models, leases: Leases) -> None:
        self._database = stack.database
        self._queue = stack.queue
        self._objects = stack.objects
        self._models = models
        self._leases = leases

    async def settle(self, outcomes: Sequence[Outcome]) -> bool:
        """End the claims of a batch. False where some had to be given back because a part they need is away."""
        claims = [claim_of(outcome) for outcome in outcomes]
        try:
            endings = await self._endings(outcomes)
            await self._end([ending for ending in endings if ending.is_ordinary])
            await self._end([ending for ending in endings if not ending.is_ordinary])
            ended = {ending.claim.task_id for ending in endings}
            unspent = [claim for claim in claims if claim.task_id not in ended and self._leases.holds(claim)]
            await self.give_back(unspent)
        finally:
            self._leases.let_go(claims)
        return not unspent

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Release claims that were not tried. If Postgres is away too, their leases will."""
        if not claims:
            return
        try:
            await patiently(lambda: self._release(claims), tries=3)
        except Exception as error:
            _log.warning("release_failed", claims=len(claims), error=type(error).__name__)

    async def _endings(self, outcomes: Sequence[Outcome]) -> list[Ending]:
        """Without those that can be neither completed nor failed for now."""
        solved = [(claim_of(outcome), outcome) for outcome in outcomes if isinstance(outcome, Solved)]
        results = await store_states(self._objects, self._leases, solved)
        endings = [
            Ending(claim, solved=one, result=result)
            for (claim, one), result in zip(solved, results, strict=True)
            if result is not None
        ]
        return endings + [
            Ending(claim_of(outcome), failure=failure_of(outcome.error))
            for outcome in outcomes
            if isinstance(outcome, Failed) and not is_away(outcome.error)
        ]

    async def _end(self, endings: Sequence[Ending]) -> bool:
        """Commit all at once; where the database objects to one of them, that one fails alone. Whether all count."""
        if not endings:
            return True
        try:
            written = await patiently(lambda: self._commit(endings))
        except Exception as error:
            if len(endings) > 1:
                return all([await self._end([ending]) for ending in endings])
            claim = endings[0].claim
            _log.error("commit_failed", task_id=claim.task_id, request_id=claim.request_id, error=type(error).__name__)
            if endings[0].failure is INTERNAL:
                return False
            failure = INTERNAL if endings[0].failure else failure_of(error)
            failed = await self._end([replace(endings[0], solved=None, result=None, failure=failure)])
            if failed:  # else an earlier commit went through after all, or the task is another's
                await self._delete(state_keys(claim.task_id, claim.attempt))
            return False
        self._leases.let_go([ending.claim for ending in endings])
        await self._announce([ending for ending, done in zip(endings, written, strict=True) if done.counts])
        for ending, done in zip(endings, written, strict=True):
            if not done.counts:
                await self._drop(ending)
            elif done.unneeded or ending.claim.attempt > 1:
                await self._clear_up(ending.claim, done)
        return all(done.counts for done in written)

    async def _commit(self, endings: Sequence[Ending]) -> list[Replayed]:
        """Which of them count: those whose lease was still ours (or that an unanswered earlier commit completed)."""
        async with self._leases.writing:
            if endings[0].is_ordinary:
                async with self._database.connect() as connection:
                    return await _written_together(connection, endings)
            async with self._database.begin() as connection:
                return [await _written(connection, ending) for ending in endings]

    async def _announce(self, endings: Sequence[Ending]) -> None:
        for ending in endings:
            if ending.solved is not None:
                self._keep(ending.claim, ending.solved)
        replies = [(ending.claim.reply_to, _reply(ending)) for ending in endings if ending.claim.reply_to is not None]
        try:
            await self._queue.reply(replies)
        except Exception as error:
            _log.warning("replies_lost", count=len(replies), error=type(error).__name__)
        _note(endings)  # nobody waits for that

    def _keep(self, claim: Claim, solved: Solved) -> None:
        work, state = solved.work, solved.state
        assert state is not None
        key = work.key
        adapted = Adapted(key.checkpoint, key.learner, work.classes, work.columns, key.shape, state)
        self._models.keep(claim.tenant, claim.task_id, adapted)

    async def _drop(self, ending: Ending) -> None:
        """Another attempt owns the task now, or nobody: what this one stored is of no use."""
        claim = ending.claim
        _log.warning("result_dropped", task_id=claim.task_id, attempt=claim.attempt, request_id=claim.request_id)
        if ending.result is not None and ending.result.object_key is not None:
            await self._delete([ending.result.object_key])

    async def _clear_up(self, claim: Claim, done: Replayed) -> None:
        """Earlier attempts may have been killed between storing their state and making it count."""
        await self._delete([*state_keys(claim.task_id, claim.attempt - 1), *done.unneeded])

    async def _delete(self, keys: Sequence[str]) -> None:
        try:
            for key in keys:
                await asyncio.to_thread(self._objects.delete, key)
        except OSError as error:
            _log.warning("state_not_deleted", error=error.strerror)

    async def _release(self, claims: Sequence[Claim]) -> None:
        async with self._leases.writing, self._database.begin() as connection:
            await tasks.release(connection, claims)
        self._leases.let_go(claims)


def claim_of(outcome: Outcome) -> Claim:
    """The claim an adaptation's outcome belongs to."""
    origin = outcome.work.origin if isinstance(outcome, Solved) else outcome.origin
    assert isinstance(origin, Claim)
    return origin


def failure_of(error: Exception) -> Failure:
    """What the caller may know of an error: everything of his own mistakes, nothing of our faults."""
    if not isinstance(error, KshotError):
        return INTERNAL
    return Failure(code=error.code, message=error.message, param=error.param)


def _note(endings: Sequence[Ending]) -> None:
    """A line for each failure, and one for all that succeeded."""
    solved = [ending for ending in endings if ending.solved is not None]
    for ending in endings:
        if ending.failure is not None:
            claim = ending.claim
            _log.info(
                "task_failed",
                task_id=claim.task_id,
                attempt=claim.attempt,
                request_id=claim.request_id,
                failure=ending.failure.code,
            )
    if solved:
        timings = [ending.solved.timings for ending in solved if ending.solved is not None]
        _log.info(
            "tasks_succeeded",
            tasks=[ending.claim.task_id for ending in solved],
            attempts=[ending.claim.attempt for ending in solved],
            requests=[ending.claim.request_id for ending in solved],
            queue_ms=[timing.queue_ms for timing in timings],
            compute_ms=timings[0].compute_ms,
            batch_size=timings[0].batch_size,
        )


async def _written_together(connection: AsyncConnection, endings: Sequence[Ending]) -> list[Replayed]:
    """Write ordinary successes down in one statement."""
    done = [(ending.claim, ending.result) for ending in endings if ending.result is not None]
    counting = await complete_all(connection, done)
    return [
        Replayed(counts=True) if ending.claim.task_id in counting else await _stands(connection, ending)
        for ending in endings
    ]


async def _written(connection: AsyncConnection, ending: Ending) -> Replayed:
    """Write an ending down, unless it stands already: Postgres may commit and go away before it says so."""
    claim = ending.claim
    if ending.result is not None and claim.background:
        done = await complete_replay(connection, claim, ending.result)
    elif ending.result is not None:
        done = Replayed(await tasks.complete(connection, claim, ending.result))
    else:
        assert ending.failure is not None
        done = Replayed(await (fail_replay if claim.background else tasks.fail)(connection, claim, ending.failure))
    return done if done.counts else await _stands(connection, ending)


async def _stands(connection: AsyncConnection, ending: Ending) -> Replayed:
    before = await tasks.was_ended(connection, ending.claim)
    if before is None or before.failure != ending.failure:
        return Replayed(counts=False)
    key = None if ending.result is None or before.kept else ending.result.object_key
    return Replayed(True, () if key is None else (key,))


def _reply(ending: Ending) -> Reply:
    if ending.result is None:
        return Reply(id=ending.claim.task_id, failure=ending.failure)
    result = ending.result
    return Reply(
        id=ending.claim.task_id, predictions=result.predictions, quality=result.quality, timings=result.timings
    )
