"""Choosing a checkpoint by itself: what may be chosen, what was found out about it, what came of it."""

from pydantic import Field

from kshot.contracts.model import Model

AUTO = "auto"
"""In place of a checkpoint: a worker chooses one. No checkpoint has this name."""


class CheckpointRef(Model):
    """Which checkpoint, and by which alias it was asked for."""

    id: str
    name: str
    alias: str | None = None


class Candidate(Model):
    """A checkpoint that may be chosen, and the learner it would adapt with.

    ``form``: which canonical form of the examples it takes; 0 is the payload's own, k the k-th of its ``others``.
    """

    checkpoint: CheckpointRef
    learner: str
    form: int


class Considered(Model):
    """What was found out about one candidate, by what the choice is made: the highest ``score``."""

    checkpoint: CheckpointRef
    leave_one_out: float | None = Field(
        default=None, description="Accuracy, or mean squared error, of each example answered without it"
    )
    log_likelihood: float | None = Field(default=None, description="Mean log likelihood of those answers")
    knn: float | None = Field(default=None, description="The same figure of nearest neighbours among the embeddings")
    logme: float | None = Field(default=None, description="Log evidence of a linear model of the embeddings (LogME)")
    score: float | None = None
    note: str | None = Field(default=None, description="Why it could not be chosen")


class Selection(Model):
    """How `auto` chose its checkpoint. ``reliable`` is False where the support is too small to tell them apart,
    and where there was but one."""

    considered: tuple[Considered, ...]
    reason: str
    reliable: bool
