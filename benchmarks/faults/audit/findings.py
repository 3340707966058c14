"""What an audit finds."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["lost", "doubled", "mixed", "contradicted", "left over", "died"]
KINDS: tuple[Kind, ...] = ("lost", "doubled", "mixed", "contradicted", "left over", "died")


@dataclass(frozen=True)
class Finding:
    """Something that must not be. ``evidence``: what the ledger says, and what was found. The kinds:

    ``lost``: accepted, and there is nothing of it. ``doubled``: there is more than one of it. ``mixed``: another
    tenant's. ``contradicted``: other than what the caller was told. ``left over``: an object that nobody names and no
    sweep removes. ``died``: a part of the service that ended by itself.
    """

    kind: Kind
    evidence: str


@dataclass
class Audit:
    """``checked``: how much of what was looked at; ``noted``: what is allowed, and counted."""

    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    def find(self, kind: Kind, evidence: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, evidence))

    def count(self, kind: Kind) -> int:
        """How many findings of a kind there are."""
        return sum(finding.kind == kind for finding in self.findings)
