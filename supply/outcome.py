"""What a check says: passed, failed, or not done. The third is never taken for the first."""

from dataclasses import dataclass
from typing import Literal

State = Literal["passed", "failed", "not done"]


@dataclass(frozen=True)
class Outcome:
    """A check's name, how it ended, and why: findings one a line, or the reason why it could not be done."""

    check: str
    state: State
    said: str

    def __str__(self) -> str:
        return f"{self.check}: {self.state.upper()}. {self.said}"


def judged(check: str, findings: list[str], nothing: str) -> Outcome:
    """Failed with its findings, or passed with ``nothing`` (what was looked at)."""
    if findings:
        return Outcome(check, "failed", "\n  ".join([f"{len(findings)} found", *findings]))
    return Outcome(check, "passed", nothing)
