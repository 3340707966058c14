"""The targets as a picture: what was found beside what was asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


class Verdict(Protocol):
    """See benchmarks.peers.page."""

    @property
    def family(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def asked(self) -> float: ...
    @property
    def found(self) -> float: ...
    @property
    def least(self) -> float: ...
    @property
    def most(self) -> float: ...


_MET, _MISSED = "#1b6ca8", "#d1495b"


def draw(file: Path, verdicts: Sequence[Verdict]) -> None:
    """A line for each target: the ratio found, from the least to the most, and a bar where it was asked to be."""
    sheet = Sheet(figsize=(11, 0.9 + 0.33 * len(verdicts)), layout="constrained")
    field = sheet.subplots()
    for line, v in enumerate(verdicts):
        colour = _MET if v.found >= v.asked else _MISSED
        spread = [[v.found - v.least], [v.most - v.found]]
        field.errorbar(v.found, line, xerr=spread, fmt="o", color=colour, markersize=5, capsize=2)
        field.plot(v.asked, line, marker="|", color="black", markersize=13)
        field.annotate(f"{v.found:.3g}", (v.found, line), (0, 5), textcoords="offset points", fontsize=7, ha="center")
    field.set_yticks(range(len(verdicts)), [f"{v.family}: {v.target}" for v in verdicts], fontsize=7)
    field.set_ylim(len(verdicts) - 0.4, -0.7)
    field.set_xscale("log")
    field.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    field.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    field.xaxis.set_minor_formatter(NullFormatter())
    field.grid(axis="x", alpha=0.3)
    field.set_title("Times as fast as the peer (bar: asked; red: missed)", fontsize=10)
    sheet.savefig(file, dpi=110, metadata={"Software": None})
