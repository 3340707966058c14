"""What an operator may set, all from the environment; secrets also from the files that ``NAME_FILE`` names."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kshot.queue.address import RedisUrl
from kshot.storage.settings import ObjectSettings


class StoreSettings(ObjectSettings):
    """Where the truth and the weights lie: all that ``publish`` needs.

    ``alive_file``: touched every five seconds by a worker or trainer, for a container's health check; None: by nobody.
    """

    alive_file: Path | None = None


class TrainerSettings(StoreSettings):
    """The trainer's settings.

    ``work``: folder for what runs need while they run; default: ``work`` beside the object store's
    folder, or beside ``cache`` where objects lie in a bucket.
    ``device``: where runs compute; ``auto``: on a GPU where there is one.
    ``lease_s``: a job not renewed for this long is another trainer's to take; renewed three times in it.
    ``trainer_threads``: CPU threads of one run, over all its processes; None: as many as there are cores.
    """

    work: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lease_s: Annotated[float, Field(ge=0.5)] = 15.0
    trainer_threads: Annotated[int, Field(ge=1)] | None = None

    @property
    def work_folder(self) -> Path:
        return self.work or self.beside_objects / "work"


class WorkerSettings(StoreSettings):
    """The adaptation worker's settings.

    ``redis_url``: ``redis://``, ``rediss://`` or ``unix://`` of Redis or Valkey.
    ``device``: where it computes; ``auto``: on a GPU where there is one.
    ``lease_s``: a claim not renewed for this long is another worker's to take; renewed three times in it.
    ``batch_tasks``, ``batch_queries``: items computed in one call, at most.
    ``threads``: CPU threads of one computation. One: beside API and Postgres on 2 cores, a second made every workload
    slower (`vectors` 324/s with one, 280/s with two; `glyphs-maml` 29/s and 23/s). More workers use more cores.
    ``state_bytes``: memory for adapted models; three eighths of it come beside that, for embeddings and for examples
    that answers name. None: a sixteenth of the machine's memory, or of what its control group may have.
    ``prediction_days``, ``checkpoint_days``: how long recorded predictions are kept, and checkpoints of jobs that
    nobody promoted (with the events of finished jobs).
    """

    redis_url: RedisUrl = Field(validation_alias="REDIS_URL")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lease_s: Annotated[float, Field(ge=0.5)] = 15.0
    batch_tasks: Annotated[int, Field(ge=1)] = 64
    batch_queries: Annotated[int, Field(ge=1)] = 256
    threads: Annotated[int, Field(ge=1)] = 1
    state_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    prediction_days: Annotated[float, Field(gt=0)] = 30
    checkpoint_days: Annotated[float, Field(gt=0)] = 30
