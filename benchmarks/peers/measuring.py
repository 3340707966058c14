"""One family in interleaved rounds, A B C A B C, and every answer beside that of the flat loop."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.peers.cases import Contestant, Family
from benchmarks.peers.problems import make
from benchmarks.peers.processes import Side, Sides

Tensors = dict[str, Tensor]
_FLAT = "flat"


@dataclass(frozen=True)
class Pace:
    """``rounds``: how often each contestant has its turn. ``seconds``: how long a turn is at least."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """A contestant's figures. ``rates``: tasks per second in each round.

    ``difference``: from the flat loop, as a share of its largest answer (at least 1); of gradients, of each tensor's
    largest entry (at least a hundredth of the largest of all: the head's is 0 but for round-off). ``tolerance``: what
    it may be; None for peers, which need not do the same arithmetic. ``same``: share of queries with the flat loop's
    class. ``right``: share of queries with the right class.
    """

    name: str
    processes: int
    threads: int
    tasks: int
    rates: list[float]
    difference: float | None
    tolerance: float | None
    same: float | None
    right: float | None

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def wrong(self) -> bool:
        """Whether kshot's answers are not those of the flat loop."""
        return self.tolerance is not None and not (self.difference is not None and self.difference <= self.tolerance)


class Race:
    """The contestants of one family, ready to run."""

    def __init__(self, family: Family, sides: Sides, folder: Path) -> None:
        self._family, self._sides, self._folder = family, sides, folder
        self._file = folder / "tensors.safetensors"
        self._tensors = make(family.problem, family.settings)
        save_file(self._tensors, self._file)
        self._flat: dict[str, Tensors] = {}

    def run(self, pace: Pace) -> list[Measured]:
        runners = [c for c in self._family.contestants if self._sides.has(c.side)]
        calls = [max(1, math.ceil(pace.seconds / self._prepare(c))) for c in runners]
        rounds = [[self._turn(runner, n) for runner, n in zip(runners, calls, strict=True)] for _ in range(pace.rounds)]
        rates = zip(*rounds, strict=True)
        found = [self._measured(runner, list(own)) for runner, own in zip(runners, rates, strict=True)]
        self._sides.forget()
        return found

    def _prepare(self, contestant: Contestant) -> float:
        """Seconds of a call, after one that warmed everything up."""
        for side in self._of(contestant):
            side.ask(self._work(contestant.name, contestant.settings, contestant.tasks, contestant.threads))
            seconds = side.answer()
        return seconds

    def _turn(self, contestant: Contestant, calls: int) -> float:
        """Tasks per second of ``calls`` calls in each of the contestant's processes, which start together."""
        sides = self._of(contestant)
        for side in sides:
            side.ask({"do": "time", "work": contestant.name, "calls": calls})
        slowest = max([side.answer() for side in sides])
        return len(sides) * contestant.tasks * calls / slowest

    def _of(self, contestant: Contestant) -> list[Side]:
        return self._sides.of(contestant.side, contestant.processes, contestant.tuned)

    def _work(self, name: str, settings: dict[str, Any], tasks: int, threads: int) -> dict[str, Any]:
        return {
            "do": "prepare",
            "work": name,
            "problem": self._family.problem,
            "settings": self._family.settings | settings,
            "tensors": str(self._file),
            "tasks": tasks,
            "threads": threads,
            "answers": str(self._answers(name)),
        }

    def _answers(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '_')}.safetensors"

    def _measured(self, contestant: Contestant, rates: list[float]) -> Measured:
        answers, ours = load_file(self._answers(contestant.name)), contestant.side == "kshot"
        expected = self._expected(contestant) if ours or contestant.side == "learn2learn" else {}
        logits = answers.get("answers") if "query_y" in self._tensors else None
        shape = (contestant.name, contestant.processes, contestant.threads, contestant.tasks)
        tolerance = self._family.tolerance[self._family.precision(contestant)] if ours else None
        same = agreement(answers, expected) if logits is not None and self._classes is not None else None
        return Measured(*shape, rates, difference(answers, expected), tolerance, same, self._right(answers))

    @property
    def _classes(self) -> Tensor | None:
        asked = self._tensors.get("query_y")
        return None if asked is None or asked.is_floating_point() else asked

    def _right(self, answers: Tensors) -> float | None:
        if self._classes is None or not {"answers", "classes"} & set(answers):
            return None
        named = answers["classes"] if "classes" in answers else answers["answers"].argmax(-1)
        return float((named == self._classes[: len(named)]).double().mean())

    def _expected(self, contestant: Contestant) -> Tensors:
        """What the flat loop gives for this contestant's tasks."""
        settings = {name: value for name, value in contestant.settings.items() if name in {"head", "learner"}}
        whole = self._family.settings["work"] != "adapt"  # a gradient belongs to all tasks of the call together
        tasks = contestant.tasks if whole else min(self._family.checked, self._most)
        name = f"flat {tasks} {sorted(settings.items())}"
        if name not in self._flat:
            (side,) = self._sides.of(_FLAT)
            side.ask(self._work(name, settings, tasks, 2))
            side.answer()
            self._flat[name] = load_file(self._answers(name))
        return self._flat[name]

    @property
    def _most(self) -> int:
        return max(contestant.tasks for contestant in self._family.contestants)


def difference(answers: Tensors, expected: Tensors) -> float | None:
    """The largest difference, see :class:`Measured`; None where there is nothing to compare with."""
    both = list(_both(answers, expected))
    least = 1.0 if "answers" in answers else 0.01 * max((float(b.abs().max()) for _, _, b in both), default=0.0)
    shares = [float((a - b).abs().max() / b.abs().max().clamp(min=least)) for _, a, b in both]
    return max(shares) if shares else None


def agreement(answers: Tensors, expected: Tensors) -> float | None:
    """The share of queries for which both name the same class."""
    shares = [float((a.argmax(-1) == b.argmax(-1)).double().mean()) for _, a, b in _both(answers, expected)]
    return shares[0] if shares else None


def _both(answers: Tensors, expected: Tensors) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Tensors that both have, as far as both go in tasks."""
    for name in answers.keys() & expected.keys():
        tasks = min(len(answers[name]), len(expected[name])) if name == "answers" else None
        yield name, answers[name][:tasks].double(), expected[name][:tasks].double()


def ratio(ours: Measured, theirs: Measured) -> tuple[float, float, float]:
    """How much faster ``ours`` is: the median over the rounds, the least and the most."""
    each = [a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]
    return statistics.median(each), min(each), max(each)


torch.set_num_threads(1)
