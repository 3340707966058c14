"""What must be shown: a figure of kshot over the same figure of a reference, and where the ratio must lie."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.serving.measuring import Load
from benchmarks.serving.probes import KSHOT, LOOP, LOOP_TUNED, NOTHING, TUNED, WRITTEN

Loads = Mapping[tuple[str, str], Sequence[Load]]
"""(probe, side) -> a load per round, in the order of the rounds."""


@dataclass(frozen=True)
class Claim:
    """``figure``: latency must stay below ``target`` times the reference's, throughput above. ``asked``: by issue 5;
    the others say more about the same thing."""

    what: str
    probe: str
    against: str
    figure: Literal["p50", "throughput"]
    target: float
    asked: bool = True
    reference_probe: str | None = None


@dataclass(frozen=True)
class Verdict:
    """``ratio``: median over the rounds of kshot's figure over the reference's; ``low``, ``high``: the extremes."""

    claim: Claim
    kshot: float
    reference: float
    ratio: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.claim.target if self.claim.figure == "p50" else self.ratio >= self.claim.target

    @property
    def share(self) -> float:
        """How much of the target is reached; 1 and more: met."""
        return self.claim.target / self.ratio if self.claim.figure == "p50" else self.ratio / self.claim.target


_JSON, _BINARY = "adapt, JSON, 64 callers", "adapt, binary, 64 callers"
_GLYPHS, _EPISODE = "glyphs-maml, 5 queries, 32 callers", "glyphs-maml, 75 queries, 32 callers"
CLAIMS = (
    Claim("adapt p50, 1 caller", "adapt, JSON, 1 caller", WRITTEN, "p50", 1.0),
    Claim("adapt p50, 1 caller, client httpx", "adapt, JSON, 1 caller, httpx", WRITTEN, "p50", 1.0, asked=False),
    Claim("adapt throughput, JSON", _JSON, WRITTEN, "throughput", 4.0),
    Claim("adapt throughput, JSON", _JSON, TUNED, "throughput", 2.5),
    Claim("adapt throughput, binary bodies, against JSON", _BINARY, TUNED, "throughput", 4.0, reference_probe=_JSON),
    Claim("adapt throughput, binary bodies on both sides", _BINARY, TUNED, "throughput", 4.0, asked=False),
    Claim("glyphs-maml throughput, 5 queries", _GLYPHS, LOOP, "throughput", 2.0),
    Claim("glyphs-maml throughput, 5 queries", _GLYPHS, LOOP_TUNED, "throughput", 2.0),
    Claim("glyphs-maml throughput, 75 queries", _EPISODE, LOOP, "throughput", 2.0, asked=False),
    Claim("glyphs-maml throughput, 75 queries", _EPISODE, LOOP_TUNED, "throughput", 2.0, asked=False),
    Claim("predict p50, 1 caller", "predict, 1 caller", NOTHING, "p50", 2.5),
    Claim("predict p50, 1 caller, client httpx", "predict, 1 caller, httpx", NOTHING, "p50", 2.5, asked=False),
    Claim("predict throughput", "predict, 64 callers", NOTHING, "throughput", 0.5),
    Claim("predict throughput, client httpx", "predict, 64 callers, httpx", NOTHING, "throughput", 0.5, asked=False),
)


def judge(loads: Loads) -> list[Verdict]:
    """The claims that were measured, those furthest from their target first."""
    verdicts = [_verdict(claim, loads) for claim in CLAIMS if _measured(claim, loads)]
    return sorted(verdicts, key=lambda verdict: verdict.share)


def _measured(claim: Claim, loads: Loads) -> bool:
    return (claim.probe, KSHOT) in loads and (claim.reference_probe or claim.probe, claim.against) in loads


def _verdict(claim: Claim, loads: Loads) -> Verdict:
    ours = [_figure(claim, load) for load in loads[claim.probe, KSHOT]]
    theirs = [_figure(claim, load) for load in loads[claim.reference_probe or claim.probe, claim.against]]
    ratios = [own / other for own, other in zip(ours, theirs, strict=False)]
    middle = statistics.median
    return Verdict(claim, middle(ours), middle(theirs), middle(ratios), min(ratios), max(ratios))


def _figure(claim: Claim, load: Load) -> float:
    return load.p50 if claim.figure == "p50" else load.per_second
