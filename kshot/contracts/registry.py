"""Comparing a challenger with what is in production."""

from typing import Literal

from kshot.contracts.checkpoints import Estimate, Stored

Verdict = Literal["better", "no_worse", "worse"]


class ComparedShape(Stored):
    """Both checkpoints on the same episodes of one shape.

    ``ahead``: by how much the challenger does better, episode by episode (accuracy: its own less the incumbent's;
    mse: the incumbent's less its own), so above 0 is better for either metric.
    """

    n_way: int | None = None
    k_shot: int
    metric: Literal["accuracy", "mse"]
    challenger: Estimate
    incumbent: Estimate
    ahead: Estimate
    episodes: int


class Comparison(Stored):
    """A challenger and the incumbent on held-out episodes of one data set.

    ``worse``: in some shape the 95% interval of ``ahead`` lies below 0. ``better``: in some it lies above, and in none
    below.
    """

    challenger: str
    incumbent: str
    dataset: str
    rows: tuple[ComparedShape, ...]
    verdict: Verdict
