"""Meta-training jobs, for administrators."""

from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import PrivateAttr

from kshot.client.drivers import AwaitingDriver, BlockingDriver
from kshot.client.endpoint import Async, Calls, Sync, endpoint, gives, gives_own_kind, lists, read
from kshot.client.events import EventDecoder
from kshot.client.exchange import exchange
from kshot.client.models import given
from kshot.client.pages import pages
from kshot.client.progress import Show, waiting
from kshot.client.requests import Content, Request, at, json_body
from kshot.client.steps import Emit, Listen, NextBytes, Script, Sleep
from kshot.client.waits import Deadline, timed_out
from kshot.contracts import job_bodies
from kshot.contracts.errors import rebuild
from kshot.contracts.job_bodies import TrainingEvent, TrainingPlan

_ENDED = ("succeeded", "failed", "cancelled")
_LOOK_S = 1.0


class JobCalls(Calls):
    """What can be done with a job. It is a snapshot: calls that change it give a new one."""

    id: str

    @gives_own_kind
    def refresh(self) -> Script[bytes]:
        """The same job as the service knows it now."""
        response = yield from self._send(Request("GET", at("/v1/training-jobs", self.id)))
        return response.content

    @gives_own_kind
    def wait(self, timeout: float | None = None) -> Script[bytes]:
        """The job once it has ended, with its ``checkpoint`` and ``evaluation``, or cancelled; one that is paused has
        not ended. None waits for as long as it takes.

        Raises:
            WaitTimedOut: it has not ended after ``timeout`` seconds; it goes on.
            KshotError: it failed; of the class that its error's code names.
        """
        deadline = Deadline(timeout)
        with waiting(self._driver.progress, "queued") as show:
            while True:
                response = yield from self._send(Request("GET", at("/v1/training-jobs", self.id)))
                job = read(job_bodies.TrainingJob, response.content)
                _show(show, job)
                if job.status in _ENDED:
                    break
                if deadline.left <= 0:
                    raise timed_out("the job", self.id)
                yield Sleep(min(_LOOK_S, deadline.left))
        if job.status == "failed" and job.error is not None:
            raise rebuild(job.error.code, job.error.message, job.error.param)
        return response.content

    @lists(TrainingEvent, TrainingEvent)
    def events(self, after: int = 0) -> Script[None]:
        """What happens to the job, oldest first, as it happens, until it has ended.

        A connection that breaks is taken up again after the last event that came. ``after``: begin behind the event of
        this ``seq``. Kinds and their data: `kshot.contracts.jobs.JobEvent`.
        """
        seen = after
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(seen)}
            request = Request("GET", at("/v1/training-jobs", self.id, "events"), headers=headers)
            response = yield from exchange(request, self._driver.retries, Listen)
            if response.status_code == 204:  # it has ended, and all is told
                return
            decoder = EventDecoder()
            try:
                while (piece := (yield NextBytes())) is not None:
                    for data in decoder.feed(piece):
                        event = read(TrainingEvent, data)
                        seen = event.seq
                        yield Emit(event)
            except httpx.HTTPError:
                pass
            yield Sleep(_LOOK_S)

    @lists(TrainingEvent, TrainingEvent)
    def past_events(self) -> Script[None]:
        """What has happened to the job so far, oldest first."""
        yield from pages(self, at("/v1/training-jobs", self.id, "events"))

    @gives_own_kind
    def cancel(self) -> Script[bytes]:
        """End it within 30 seconds; its saved state is deleted. Raises Conflict where it has ended."""
        return (yield from self._steer("cancel"))

    @gives_own_kind
    def pause(self) -> Script[bytes]:
        """Let it save its state and wait. Raises Conflict where it has ended."""
        return (yield from self._steer("pause"))

    @gives_own_kind
    def resume(self) -> Script[bytes]:
        """Queue a paused job again; it goes on where it was. Raises Conflict where it is not paused."""
        return (yield from self._steer("resume"))

    def _steer(self, verb: str) -> Script[bytes]:
        repeatable = verb != "resume"
        request = Request("POST", at("/v1/training-jobs", self.id, verb), repeatable=repeatable)
        response = yield from self._send(request)
        return response.content


class Job(Sync, JobCalls, job_bodies.TrainingJob):
    """A meta-training job of a `Client`: the fields below, as they were when it was asked for."""

    _driver: BlockingDriver = PrivateAttr()


class AsyncJob(Async, JobCalls, job_bodies.TrainingJob):
    """A meta-training job of an `AsyncClient`; its calls are awaited."""

    _driver: AwaitingDriver = PrivateAttr()


class TrainingCalls(Calls):
    """Of both clients."""

    @gives(Job, AsyncJob)
    def train(
        self, /, dataset: str, name: str, *, steps: int | None = None, time_budget: float | None = None, **settings: Any
    ) -> Script[bytes]:
        """Start a meta-training job; `Job.wait` waits for it, and no alias moves at its end.

        Args:
            dataset: id or name of a data set.
            name: of the checkpoint that it makes.
            steps: how long to train; or ``time_budget``, in seconds; by default as suits the data set.
            settings: whatever else `POST /v1/training-jobs` takes (`kshot.contracts.job_bodies.NewJobRequest`):
                ``encoder``, ``learner``, ``episode``, ``augment``, ``optimiser``, ``meta_batch``, ``evaluate``,
                ``base_checkpoint``, ``options``, ``seed``, ``workers_per_job``, ``description``, ``input``.

        Raises Invalid naming the field, NotFound where there is no such data set.
        """
        body = wanted_job(dataset, name, steps=steps, time_budget=time_budget, **settings)
        response = yield from self._send(Request("POST", "/v1/training-jobs", body=body).created_once())
        return response.content

    @endpoint
    def plan(
        self, /, dataset: str, name: str, *, steps: int | None = None, time_budget: float | None = None, **settings: Any
    ) -> Script[TrainingPlan]:
        """What `train` would run with these settings, every default filled in, or why it would be refused; nothing is
        started."""
        body = wanted_job(dataset, name, steps=steps, time_budget=time_budget, **settings)
        response = yield from self._send(Request("POST", "/v1/training-plans", body=body))
        return read(TrainingPlan, response.content)

    @gives(Job, AsyncJob)
    def job(self, id: str) -> Script[bytes]:
        """The job with this id (``job_...``). Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/training-jobs", id)))
        return response.content

    @lists(Job, AsyncJob)
    def jobs(self, *, status: Sequence[str] = (), name: str | None = None, dataset: str | None = None) -> Script[None]:
        """All jobs, newest first; only those of some ``status``, of checkpoints of this ``name``, on this ``dataset``
        (its id)."""
        only = {**({"status": list(status)} if status else {}), **given(name=name, dataset=dataset)}
        yield from pages(self, "/v1/training-jobs", only)


def wanted_job(dataset: str, name: str, **settings: Any) -> Content:
    """The body that asks for a job."""
    return json_body({"dataset": dataset, "name": name, **given(**settings)})


def _show(show: Show, job: job_bodies.TrainingJob) -> None:
    pace = "" if job.steps_per_s is None else f", {job.steps_per_s:.3g} steps/s"
    doing = job.phase if job.status == "running" else job.queue_state or job.status
    show(description=f"{job.name}: {doing}{pace}", completed=job.progress.step, total=job.progress.total)
