"""Meta-training jobs between the front end, the trainer and the process that trains."""

from typing import Any, Literal

from kshot.contracts.checkpoints import Stored
from kshot.contracts.recipe import Recipe

JobStatus = Literal["queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed"]
OPEN_STATUSES = ("queued", "running", "pausing", "paused", "cancelling")
"""While a job has one of these it may still need its data set and its base checkpoint."""

REQUEST_ID = "JOB_REQUEST_ID"
"""In the environment of the process that trains: the request that its log lines belong to."""
SPEC_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
OUT_FOLDER = "_out"
"""Below ``checkpoints`` of a work folder; no checkpoint's name begins like that."""
STATE_FILE = ".progress.safetensors"
"""Beside the checkpoint that a run makes, until it is complete."""

EventKind = Literal[
    "queued", "started", "resumed", "total", "step", "validation", "saved", "phase", "evaluated", "paused", "released",
    "cancelled", "failed", "succeeded",
]  # fmt: skip


class JobSpec(Stored):
    """All that training needs, decided when the job was accepted.

    ``recipe.data.name`` is the data set's id: a folder of that name lies in the work folder's ``data``; the encoder to
    begin with, where ``recipe.start`` names one, in ``checkpoints/<recipe.start.parent>``. ``minutes``: the number of
    steps is what fits into so long, instead of ``recipe.training.steps``. ``workers``: processes that share each
    meta-batch.
    """

    job: str
    recipe: Recipe
    dataset: str
    dataset_name: str
    base_checkpoint: str | None = None
    minutes: float | None = None
    workers: int = 1


class JobEvent(Stored):
    """Something that happened to a job, as a line of EVENTS_FILE and as a row.

    Data by kind: ``total`` {total}; ``step`` {step, loss, steps_per_s}; ``validation`` {step, metric, mean, interval,
    n_way, k_shot}; ``saved`` and ``resumed`` {step}; ``phase`` {phase: training | evaluating | signing}; ``evaluated``
    an evaluation row; ``failed`` {code, message, param}; ``succeeded`` {checkpoint}.
    """

    kind: EventKind
    data: dict[str, Any] = {}


class Exit:
    """How the process that trains ends. Anything else is a death, after which it is started again from its last save.

    ``FAILED``: a ``failed`` event says why, and trying again is of no use.
    """

    FINISHED = 0
    FAILED = 2
    STOPPED = 75
