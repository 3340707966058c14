"""One attempt at a job: a child trains, its events and states are kept where they outlive this machine."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from structlog.contextvars import bound_contextvars

from kshot.contracts.errors import KshotError
from kshot.contracts.jobs import REQUEST_ID, Exit, JobEvent, JobStatus
from kshot.contracts.tasks import Failure
from kshot.storage import job_runs
from kshot.storage.job_runs import JobClaim, SavedState
from workers.children import run_child
from workers.job_folder import JobFolder, attempt_of, job_prefix, state_key
from workers.job_trace import JobTrace
from workers.patience import every, is_away, patiently
from workers.publishing import publish_job, weights_key
from workers.trainer_stack import TrainerStack

_LOOK_S = 0.25
_LONGEST_BEAT_S = 2.0
"""A heartbeat also brings back the wish to cancel, which must be granted within 30 seconds."""
_GRACE_S = 20.0
_EVENTS_AT_ONCE = 500
_CHECKOUT = Path(__file__).parents[1]
_CHILD_SAYS = ("total", "step", "validation", "saved", "resumed", "phase", "evaluated")
"""How a job ends is said by whoever writes its row, in the same transaction."""

_log = structlog.get_logger()


class JobRun:
    """``stop`` ends it early: the child saves, and the job is queued again for the next trainer."""

    def __init__(self, stack: TrainerStack, claim: JobClaim, stop: asyncio.Event) -> None:
        self._stack = stack
        self._claim = claim
        self._stop = stop
        self._folder = JobFolder(stack.work / f"{claim.job}-{claim.attempt}")
        self._state_key = claim.state_key
        self._halt = asyncio.Event()
        self._lost = asyncio.Event()
        self._failure: Failure | None = None
        self._over = False
        self._trace = JobTrace(claim)

    async def run(self) -> bool:
        """To the end of the attempt. False where it could not begin, because a part it needs is away."""
        with bound_contextvars(request_id=self._claim.request_id, job=self._claim.job, attempt=self._claim.attempt):
            try:
                return await self._attempt()
            finally:
                self._trace.end(None if self._failure is None else self._failure.code)

    async def _attempt(self) -> bool:
        _log.info("job_started", step=self._claim.state_step)
        beat_s = min(self._stack.lease_s / 3, _LONGEST_BEAT_S)
        beside = [asyncio.create_task(every(beat_s, self._beat)), asyncio.create_task(self._pass_on_stop())]
        try:
            return await self._run()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._folder.remove()

    async def _run(self) -> bool:
        try:
            await self._tidy()
            await self._folder.lay(self._stack, self._claim)
        except KshotError as error:
            self._failure = Failure(code=error.code, message=error.message, param=error.param)
            await self._end(Exit.FAILED)
            return True
        except Exception as error:
            _log.error("job_not_begun", exc_info=error)
            await self._let_go(spent=not is_away(error), reason="its data could not be read")
            return False
        self._trace.begins("start")
        await self._end(await self._train())
        return True

    async def _train(self) -> int | None:
        """Runs the child and keeps what it says; its exit code, None where it was killed because the job is lost."""
        child = asyncio.create_task(self._child())
        lost = asyncio.create_task(self._lost.wait())
        try:
            while not child.done() and not lost.done():
                await asyncio.wait([child, lost], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                try:
                    await self._follow()
                except Exception as error:
                    if not is_away(error):
                        raise
                    _log.warning("not_reported", error=type(error).__name__)
        finally:
            lost.cancel()
            if not child.done():
                child.cancel()
            await asyncio.wait([child])
        while not self._lost.is_set() and await patiently(self._follow):
            pass
        return None if child.cancelled() else child.result()

    async def _child(self) -> int:
        folder, stack = self._folder.folder, self._stack
        return await run_child(
            child_command(folder, self._claim.spec.workers, stack.threads, stack.device),
            cwd=_CHECKOUT,
            log=self._folder.log,
            stop=self._halt,
            env={"TMPDIR": str(folder), REQUEST_ID: self._claim.request_id or ""},
            grace_s=_GRACE_S,
        )

    async def _follow(self) -> bool:
        """Report what the child has said since the last look, with the state it saved; whether there was anything.

        What could not be reported stays in its file, and is read again.
        """
        events, place = self._folder.unread(_EVENTS_AT_ONCE)
        self._trace.heard(events)
        for event in events:
            if event.kind == "failed":
                self._failure = Failure.model_validate(event.data)
                self._halt.set()  # of several processes the others are still there
        if not events:
            self._folder.read_to(place)
            return False
        saved = await self._store_state() if any(event.kind == "saved" for event in events) else None
        said = [event for event in events if event.kind in _CHILD_SAYS and (event.kind != "saved" or saved is not None)]
        await self._report(said, saved)
        self._folder.read_to(place)
        return True

    async def _store_state(self) -> SavedState | None:
        """Copy the child's state to the object store; None where that cannot be done now."""
        try:
            found = await asyncio.to_thread(self._folder.state)
            if found is None:
                return None
            blob, step = found
            key = state_key(self._claim, step)
            await asyncio.to_thread(self._stack.objects.put, key, blob)
        except OSError as error:
            _log.error("state_not_stored", error=error.strerror)
            return None
        return SavedState(key, step)

    async def _report(self, events: Sequence[JobEvent] = (), saved: SavedState | None = None) -> None:
        async with self._stack.database.begin() as connection:
            status = await job_runs.report(connection, self._claim, self._stack.lease_s, events, saved)
        self._hear(status)
        if saved is None or status is None:  # not ours; but it may count, if Postgres went away while it committed
            return
        needless, self._state_key = self._state_key, saved.key
        if needless is not None and needless != saved.key:
            await self._delete([needless])

    def _hear(self, status: JobStatus | None) -> None:
        if status is None:
            if not self._lost.is_set():
                _log.warning("job_lost")
            self._lost.set()
        elif status != "running":
            self._halt.set()

    async def _beat(self) -> None:
        if not self._over:
            await self._report()

    async def _pass_on_stop(self) -> None:
        await self._stop.wait()
        self._halt.set()

    async def _end(self, code: int | None) -> None:
        if self._lost.is_set() or code is None:
            return
        if code == Exit.FINISHED:
            return await self._finish()
        if self._failure is not None and await patiently(self._fail):
            return await self._clear_up("failed")
        stopped = self._halt.is_set()
        how = how_it_ended(code)
        if not stopped:
            _log.warning("child_died", how=how, said=self._folder.last_words())
        await self._let_go(spent=not stopped, reason=None if stopped else f"the process that trains {how}")

    async def _finish(self) -> None:
        """Register what the child made. One to be cancelled is let go, as if it had been stopped."""
        self._trace.begins("publish")
        database, objects = self._stack.database, self._stack.objects
        try:
            published = await patiently(lambda: publish_job(database, objects, self._folder.out, self._claim))
        except KshotError as error:
            _log.error("not_published", exc_info=error)
            return await self._let_go(spent=True, reason="the process that trains left no sound checkpoint")
        if published:
            return await self._clear_up("succeeded")
        await self._let_go(spent=False)

    async def _fail(self) -> bool:
        assert self._failure is not None
        async with self._stack.database.begin() as connection:
            return await job_runs.fail(connection, self._claim, self._failure)

    async def _let_go(self, *, spent: bool, reason: str | None = None) -> None:
        async def write() -> JobStatus | None:
            async with self._stack.database.begin() as connection:
                return await job_runs.let_go(connection, self._claim, spent=spent, reason=reason)

        status = await patiently(write)
        self._over = True
        _log.info("job_let_go", status=status)
        if status == "cancelled":
            await self._clear_up(status)

    async def _clear_up(self, status: JobStatus) -> None:
        """The job has ended: nobody needs its states, its copy of the data and the weights of other attempts."""
        self._over = True
        _log.info("job_ended", status=status)
        stored = await asyncio.to_thread(self._stack.objects.keys, job_prefix(self._claim.job))
        others = self._claim.attempt - (1 if status == "succeeded" else 0)
        weights = [weights_key(replace(self._claim, attempt=attempt + 1)) for attempt in range(others)]
        await self._delete([*stored, *weights])

    async def _tidy(self) -> None:
        """Earlier attempts may have been killed between storing a state and making it count. Those of later ones stay:
        this trainer may have been stopped for so long that it has lost the job, and does not know yet."""
        found = await asyncio.to_thread(self._stack.objects.keys, job_prefix(self._claim.job))
        earlier = [key for key in found if (by := attempt_of(key)) is not None and by < self._claim.attempt]
        await self._delete([key for key in earlier if key != self._claim.state_key])

    async def _delete(self, keys: Sequence[str]) -> None:
        try:
            for key in keys:
                await asyncio.to_thread(self._stack.objects.delete, key)
        except OSError as error:
            _log.warning("state_not_deleted", error=error.strerror)


def child_command(folder: Path, workers: int, threads: int, device: str) -> list[str]:
    """What trains: one process, or as many as share each meta-batch, restarted together when one of them dies."""
    job = ["kshot.training.job", str(folder), "--threads", str(max(1, threads // workers)), "--device", device]
    shared = [] if workers == 1 else ["kshot.training.ranks", str(workers)]
    return [sys.executable, "-m", *shared, *job]


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
