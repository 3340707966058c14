"""The bodies of liveness and readiness."""

from typing import Literal

from kshot.contracts.api import Answer


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Parts(Answer):
    """The state of each part."""

    database: Literal["up", "away"]
    redis: Literal["up", "away"]
    objects: Literal["up", "away"]
    workers: int
    trainers: int
    checkpoints: int


class Readiness(Answer):
    """``degraded``: adaptations are accepted and kept, but predictions wait for what is away, and without the
    object store, which holds checkpoints and large states, so do adaptations that need it.

    ``starting``: no checkpoint is published yet, so there is nothing to adapt.
    """

    status: Literal["ready", "degraded", "starting", "unavailable"]
    parts: Parts
