"""The work folder of one attempt at a job, seen from the trainer: what it lays there, and what the child leaves."""

import asyncio
import shutil
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import structlog
from pydantic import ValidationError

from kshot.contracts.errors import NotFound
from kshot.contracts.jobs import EVENTS_FILE, OUT_FOLDER, SPEC_FILE, STATE_FILE, JobEvent
from kshot.contracts.wire import peek
from kshot.storage.job_runs import JobClaim
from kshot.storage.objects import ObjectStore
from workers.data_folders import lay_checkpoint, lay_dataset
from workers.trainer_stack import TrainerStack

_LOG = "log"
_LOG_BYTES = 4000

_log = structlog.get_logger()


@dataclass
class JobFolder:
    """``folder`` is removed with everything in it when the attempt is over. ``_read``: bytes of the events file that
    have been taken care of."""

    folder: Path
    _read: int = field(default=0)

    @property
    def log(self) -> Path:
        """What the child prints."""
        return self.folder / _LOG

    @property
    def out(self) -> Path:
        """Where the child keeps its state and, at last, leaves the checkpoint."""
        return self.folder / "checkpoints" / OUT_FOLDER

    async def lay(self, stack: TrainerStack, claim: JobClaim) -> None:
        """Put everything there that the child reads. Raises NotFound, Expired; OSError where the store is away."""
        spec = claim.spec
        self.out.mkdir(parents=True)
        (self.folder / SPEC_FILE).write_text(spec.model_dump_json(indent=1))
        data = self.folder / "data"
        await lay_dataset(stack.database, stack.objects, spec.dataset, data, data_key(claim.job), claim.state_key)
        if spec.recipe.start is not None and spec.base_checkpoint is not None:
            parent = self.folder / "checkpoints" / spec.recipe.start.parent
            await lay_checkpoint(stack.database, stack.objects, spec.base_checkpoint, parent)
        if claim.state_key is not None:
            await asyncio.to_thread(self._lay_state, stack.objects, claim.state_key)

    def unread(self, limit: int) -> tuple[list[JobEvent], int]:
        """Up to ``limit`` whole lines of the child's events that were not read before, and the place after them, for
        :meth:`read_to`. A line that is no event is passed over."""
        try:
            with (self.folder / EVENTS_FILE).open("rb") as file:
                file.seek(self._read)
                lines = list(islice(file, limit))
        except FileNotFoundError:
            return [], self._read
        whole = [line for line in lines if line.endswith(b"\n")]
        return [event for line in whole if (event := _event(line)) is not None], self._read + sum(map(len, whole))

    def read_to(self, place: int) -> None:
        """Everything before that place has been taken care of."""
        self._read = place

    def state(self) -> tuple[bytes, int] | None:
        """The run's last saved state and its step, which may be later than the last event read; None before the first.

        Raises Invalid, OSError.
        """
        try:
            blob = (self.out / STATE_FILE).read_bytes()
        except FileNotFoundError:
            return None
        return blob, int(peek(blob)["step"])

    def last_words(self) -> str:
        """The end of what the child printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    async def remove(self) -> None:
        """With everything in it."""
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def _lay_state(self, objects: ObjectStore, key: str) -> None:
        try:
            (self.out / STATE_FILE).write_bytes(objects.get(key))
        except NotFound:  # whoever removed it wants the steps done again rather than no result
            _log.error("state_missing", object_key=key)


def job_prefix(job: str) -> str:
    """Where a job keeps its objects until it ends."""
    return f"jobs/{job}"


def job_of(key: str) -> str:
    """Whose object this is."""
    return key.split("/")[1]


def state_key(claim: JobClaim, step: int) -> str:
    """Where an attempt keeps the state of a step: a key of its own, so that no two attempts write one object."""
    return f"{job_prefix(claim.job)}/{claim.attempt}-{step}.safetensors"


def attempt_of(key: str) -> int | None:
    """Which attempt keeps a state there; None where the key is that of the data."""
    first, _, _ = key.rpartition("/")[2].partition("-")
    return int(first) if first.isdecimal() else None


def data_key(job: str) -> str:
    """Where data that were collected for the job are kept, so that each attempt has the same."""
    return f"{job_prefix(job)}/data.safetensors"


def _event(line: bytes) -> JobEvent | None:
    try:
        return JobEvent.model_validate_json(line)
    except ValidationError:
        _log.error("event_not_read", n_bytes=len(line))
        return None
