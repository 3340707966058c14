"""A job's descent as its watcher sees it: reports, validation, saves, and the time budget turned into steps."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

import numpy as np

from kshot.training.job_events import JobEvents
from kshot.training.progress import Run
from kshot.training.validation import Validation

SAVE_S = float(os.environ.get("KSHOT_SAVE_S", "30"))
_REPORT_S = 5.0
_REPORTS, _SAVES, _VALIDATIONS = 100, 20, 20
_WARM_UP, _LEAST_STEPS, _LEAST_SHARE = 2, 20, 0.05
_VALIDATION_SHARE = 0.1


class Stopped(Exception):
    """SIGTERM came, and the run is saved."""


class StopSignal:
    """SIGTERM. It ends the process at once where nothing is half done, and waits for the step to end in a descent."""

    def __init__(self) -> None:
        self.set = False
        self.waits = False

    def listen(self) -> None:
        """From now on; in the main thread."""
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.set = True
        if not self.waits:
            raise Stopped


class JobWatch:
    """What happens between two steps of a job.

    About a hundred reports, twenty validations and twenty saves a run; a report at least every 5 s and a save every
    ``KSHOT_SAVE_S`` (30). Validation takes at most a tenth of the time: with slow episodes there are fewer points.

    The time budget: two steps warm up, then the pace of the next 20 steps or 5% of the budget, whichever takes longer,
    says how many steps fit, validation included. That number is saved with the run before anything else happens, so
    the learning rate falls along the same cosine however often the run is stopped; until then it is the first one.
    """

    def __init__(
        self,
        events: JobEvents,
        save: Callable[[], None],
        stop: StopSignal,
        validation: Validation | None,
        budget_s: float | None,
    ) -> None:
        self._events, self._save, self._stop, self._validation = events, save, stop, validation
        self._budget_s = budget_s
        now = time.perf_counter()
        self._recent: list[float] = []
        self._reported = self._saved = now
        self._validated, self._validation_s = now, 0.0
        self._warm: tuple[int, float] | None = None
        self._first_step: int | None = None

    def begin(self, run: Run) -> None:
        """Before the first step of this sitting."""
        if run.total is not None:
            self._events.emit("total", total=run.total)
        if run.step == 0:
            self._validate(run)
        self._reported = self._saved = time.perf_counter()

    def stepped(self, run: Run, loss: float) -> None:
        self._recent.append(loss)
        if run.total is None:
            self._fit(run)
        total = run.total
        now = time.perf_counter()
        if (total is not None and _due(run.step, total, _REPORTS)) or now - self._reported > _REPORT_S:
            self._report(run, now)
        if total is not None and _due(run.step, total, _VALIDATIONS) and self._may_validate(run, now):
            self._validate(run)
        if (total is not None and _due(run.step, total, _SAVES)) or now - self._saved > SAVE_S or self._stop.set:
            self._keep(run)
        if self._stop.set and run.step != total:
            raise Stopped

    def _report(self, run: Run, now: float) -> None:
        pace = len(self._recent) / max(now - self._reported, 1e-9)
        mean = float(np.mean(self._recent))
        self._events.emit("step", step=run.step, loss=mean, steps_per_s=round(pace, 3))
        self._recent, self._reported = [], now

    def _keep(self, run: Run) -> None:
        self._save()
        self._events.emit("saved", step=run.step)
        self._saved = time.perf_counter()

    def _may_validate(self, run: Run, now: float) -> bool:
        return run.step == run.total or (now - self._validated) * _VALIDATION_SHARE >= self._validation_s

    def _validate(self, run: Run) -> None:
        if self._validation is None:
            return
        started = time.perf_counter()
        point = self._validation.point()
        if point is not None:
            self._events.emit("validation", step=run.step, **point)
        ended = time.perf_counter()
        self._validated, self._validation_s = ended, ended - started
        self._reported += ended - started  # the pace is that of steps

    def _fit(self, run: Run) -> None:
        """Turn the budget into steps, once enough of them were timed."""
        assert self._budget_s is not None
        now = time.perf_counter()
        if self._first_step is None:
            self._first_step = run.step
        if self._warm is None:
            self._warm = (run.step, now) if run.step - self._first_step >= _WARM_UP - 1 else None
            return
        steps, seconds = run.step - self._warm[0], now - self._warm[1]
        left = self._budget_s - run.seconds
        if left > 0 and (steps < _LEAST_STEPS or seconds < _LEAST_SHARE * self._budget_s):
            return
        validations = min(_VALIDATIONS * self._validation_s, _VALIDATION_SHARE * max(left, 0.0))
        run.total = run.step + int(max(0.0, left - validations) * steps / max(seconds, 1e-9))
        self._events.emit("total", total=run.total)
        self._keep(run)


def _due(step: int, total: int, parts: int) -> bool:
    """Whether this step is one of about ``parts`` of a run; the last one is."""
    return step == total or step % max(1, total // parts) == 0
