"""A table of measured figures with published numbers beside them, written by :mod:`benchmarks.accuracy.pages`.

    table = Table(
        title="Omniglot",
        metric="accuracy in %",
        headings=(Heading("5-way 1-shot", "inductive"), Heading("5-way 1-shot", "transductive")),
        rows=(Row("protonet", {heading: Figure(98.5, 0.2, 600)}, {heading: 98.8}),),
    )
    write(Path("benchmarks/results/omniglot"), table)

Figures are in the unit that ``metric`` names; whoever makes the table converts. A row whose weights are not trained to
the end says so in ``unfinished``, and its name in the table carries that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heading:
    """One column. Columns of one ``panel`` share a field of the plot; ``variant`` tells them apart there."""

    panel: str
    variant: str = ""

    @property
    def name(self) -> str:
        """For example ``5-way 1-shot, inductive``."""
        return ", ".join(part for part in (self.panel, self.variant) if part)


@dataclass(frozen=True)
class Figure:
    """Mean over ``count`` episodes (or seeds, or rows) and half the width of its 95% interval.

    ``asked``: how many there should be, where the measurement stopped before.
    """

    mean: float
    interval: float
    count: int
    asked: int | None = None

    @property
    def finished(self) -> bool:
        """Whether as many were measured as were asked for."""
        return self.asked is None or self.count >= self.asked


@dataclass(frozen=True)
class Row:
    """One method. ``published``: others' figures for the same columns. ``unfinished``: what is not done yet, if any."""

    name: str
    figures: Mapping[Heading, Figure]
    published: Mapping[Heading, float] = field(default_factory=dict)
    unfinished: str = ""

    @property
    def label(self) -> str:
        """The name, with what is not done yet."""
        return f"{self.name} ({self.unfinished})" if self.unfinished else self.name


@dataclass(frozen=True)
class Table:
    """``details``: one mapping per row of a second table, for example what each training cost. ``notes``: sentences."""

    title: str
    metric: str
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    details: tuple[Mapping[str, Any], ...] = ()
    digits: int = 2
    logarithmic: bool = False
