"""The results as JSON, as a Markdown page (what misses its target first) and as a picture."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import Family, families
from benchmarks.peers.measuring import Measured, ratio
from benchmarks.peers.picture import draw
from benchmarks.report import about

_INTRODUCTION = """# kshot beside its peers

learn2learn 0.2.0, easyfsl 1.5.0, TorchOpt 0.7.3, higher 0.2.1 and scikit-learn 1.9.1 in an environment of their own
(`benchmarks/peers/constraints.txt`), all on torch 2.13.0. A family is one run in which contestants take turns, A B C
A B C; figures are medians over the rounds, ratios medians of each round's ratio with the least and the most. kshot is
measured by its learners' public interface, `adapt_only` and `predict` (with quality: `adapt`), on uint8 pictures; peers
get theirs as float tensors ready for the network. "2 x 1 thread": two processes of one thread at the same time, with so
many tasks a call *each*; a peer loops over its tasks, so their number makes no difference to it. kshot's processes have
told glibc to keep freed memory, as its workers do; peers with "malloc tuned" have the same by environment. learn2learn
adapts with `first_order=True`, without which it is slower, and its networks have kshot's order of maximum and ReLU.
What counts for a target is the fastest of the contestants it names, on both sides.

Norms. "Batch statistics": learn2learn has `nn.BatchNorm2d` by the rows at hand, so its queries are answered by their
own statistics; kshot has norm `task`, the same in the inner loop, but answers by the support's statistics, for which it
passes the support once more. Hence learn2learn's difference from the flat loop there; in meta-training both take the
rows at hand and the gradients agree. "No statistics": a scale and a shift (norm `affine`, which `glyphs-maml` has) on
both sides, the same arithmetic throughout.

Difference: the largest from the flat loop (float32, examples/), as a share of its largest answer (at least 1); of
gradients, of each tensor's largest entry (at least a hundredth of the largest of all). Same: queries named as the flat
loop names them. Right: queries named rightly, on synthetic tasks and untrained weights.
"""


@dataclass(frozen=True)
class Verdict:
    """A target with what was found: the median ratio, the least and the most."""

    family: str
    target: str
    asked: float
    found: float
    least: float
    most: float
    ours: str
    theirs: str


@dataclass(frozen=True)
class Results:
    """A family as measured."""

    family: str
    about: dict[str, Any]
    measured: list[Measured]
    verdicts: list[Verdict]

    @classmethod
    def of(cls, family: Family, measured: list[Measured]) -> "Results":
        by_name = {one.name: one for one in measured}
        verdicts = []
        for target in family.targets:
            ours, theirs = (
                max((by_name[name] for name in names if name in by_name), key=lambda one: one.rate, default=None)
                for names in (target.ours, target.theirs)
            )
            if ours is not None and theirs is not None:
                found = (*ratio(ours, theirs), ours.name, theirs.name)
                verdicts.append(Verdict(family.name, target.name, target.asked, *found))
        return cls(family.name, about(), measured, verdicts)


class Page:
    """``peers.json``, ``.md`` and ``.png`` in a folder; families that are not measured anew stay as they were."""

    def __init__(self, folder: Path) -> None:
        self._stem = folder / "peers"
        self.results = _read(self._stem.with_suffix(".json"))

    def keep(self, results: Results) -> None:
        """Write everything, with ``results`` in the place of what there was of this family."""
        self.results[results.family] = results
        order = [family.name for family in families()]
        self.results = {name: self.results[name] for name in order if name in self.results}
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        rows = [asdict(results) for results in self.results.values()]
        self._stem.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
        verdicts = sorted(
            (verdict for results in self.results.values() for verdict in results.verdicts),
            key=lambda verdict: verdict.found / verdict.asked,
        )
        tables = [self.text(name) for name in self.results]
        self._stem.with_suffix(".md").write_text("\n".join([_INTRODUCTION, _targets(verdicts), *tables]))
        if verdicts:
            draw(self._stem.with_suffix(".png"), verdicts)

    def text(self, family: str) -> str:
        """A family's table in Markdown."""
        results = self.results[family]
        origin, first = results.about, results.measured[0]
        lines = [f"## {family}", "", f"{origin['date']}, commit {origin['commit']}, `{origin['command']}`, "]
        lines += [f"{origin['machine']}, {len(first.rates)} rounds. Relative to {first.name}:", ""]
        lines += [
            "| contestant | tasks/s | ms a task | relative | difference | same | right |",
            "|---|---|---|---|---|---|---|",
        ]
        return "\n".join([*lines, *(_line(one, first) for one in results.measured), ""])


def _line(one: Measured, first: Measured) -> str:
    found, least, most = ratio(one, first)
    difference = "" if one.difference is None else f"{one.difference:.1e}"
    if one.tolerance is not None:
        difference += f" (may be {one.tolerance:.0e})" + " **WRONG**" * one.wrong
    shares = ["" if share is None else f"{100 * share:.1f}%" for share in (one.same, one.right)]
    cells = [one.name, f"{one.rate:.4g}", f"{1000 / one.rate:.4g}", f"{found:.2f} ({least:.2f} to {most:.2f})"]
    return "| " + " | ".join([*cells, difference, *shares]) + " |"


def _targets(verdicts: list[Verdict]) -> str:
    lines = [
        "## Targets, misses first",
        "",
        "| family | target | asked | found | | kshot | peer |",
        "|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        met = "met" if v.found >= v.asked else "**missed**"
        found = f"{v.found:.2f} ({v.least:.2f} to {v.most:.2f})"
        lines.append(f"| {v.family} | {v.target} | {v.asked:g} | {found} | {met} | {v.ours} | {v.theirs} |")
    return "\n".join([*lines, ""])


def _read(file: Path) -> dict[str, Results]:
    if not file.is_file():
        return {}
    found = {}
    for row in json.loads(file.read_text()):
        measured, verdicts = [Measured(**one) for one in row["measured"]], [Verdict(**one) for one in row["verdicts"]]
        found[row["family"]] = Results(row["family"], row["about"], measured, verdicts)
    return found
