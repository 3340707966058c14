"""The targets as a picture: what was found beside what was asked."""

from collections.abc import Mapping, Sequence
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


def draw_operators(file: Path, trees: Mapping[str, Mapping[str, Mapping[str, float]]], shown: int) -> None:
    """A field for each piece of work: milliseconds of a task by operator, a bar for each tree."""
    works = list(next(iter(trees.values())))
    sheet = Sheet(figsize=(11, 2.6 * len(works)), layout="constrained")
    fields = sheet.subplots(len(works), 1, squeeze=False).reshape(-1)
    for field, work in zip(fields, works, strict=True):
        most: dict[str, float] = {}
        for tree in trees.values():
            for name, ms in tree[work].items():
                most[name] = max(most.get(name, 0.0), ms)
        names = sorted(most, key=lambda name: -most[name])[:shown]
        for place, (label, tree) in enumerate(trees.items()):
            heights = [i + 0.4 * place - 0.2 for i in range(len(names))]
            total = f"{label}: {sum(tree[work].values()):.3g} ms in all"
            colour = (_MISSED, _MET)[place % 2]
            field.barh(heights, [tree[work].get(name, 0.0) for name in names], 0.38, color=colour, label=total)
        field.set_yticks(range(len(names)), [name.removeprefix("aten::") for name in names], fontsize=7)
        field.set_ylim(len(names) - 0.4, -0.6)
        field.set_title(work, fontsize=10)
        field.set_xlabel("ms a task", fontsize=8)
        field.legend(fontsize=8, frameon=False, loc="lower right")
    sheet.savefig(file, dpi=100, metadata={"Software": None})
