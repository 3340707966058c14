"""`python -m supply audit | licences | sbom | secrets`: checks, and lists into `build/`."""

import sys
from collections.abc import Callable, Sequence

from supply import ROOT, bom, code, leaks, licences, vulnerabilities
from supply.outcome import Outcome

BUILD = ROOT / "build"
CHECKS = (code.check, leaks.check, licences.check, vulnerabilities.check)


def audit(checks: Sequence[Callable[[], Outcome]] = CHECKS) -> int:
    """All checks, each with a line. Only a failed one ends the command with 1; one not done is said, last."""
    outcomes = []
    for check in checks:
        outcomes.append(check())
        print(outcomes[-1], flush=True)
    missing = [outcome.check for outcome in outcomes if outcome.state == "not done"]
    if missing:
        print(f"NOT AUDITED here: {', '.join(missing)}. Repeat `make audit` where it can be done before a release.")
    return int(any(outcome.state == "failed" for outcome in outcomes))


def write_licences() -> int:
    """The list of licences, and whether all may come in."""
    licences.write(BUILD / "licences.md")
    outcome = licences.check()
    print(outcome, "See build/licences.md", sep="\n")
    return int(outcome.state == "failed")


def write_bill() -> int:
    """The bill of materials."""
    print(f"{bom.write(BUILD / 'sbom.json')} packages in build/sbom.json")
    return 0


def write_secrets() -> int:
    """The baseline of findings; new ones are for somebody to look at and mark."""
    leaks.write()
    print(leaks.check(), 'What is no secret gets `"is_secret": false` in .secrets.baseline', sep="\n")
    return 0


COMMANDS: dict[str, Callable[[], int]] = {
    "audit": audit,
    "licences": write_licences,
    "sbom": write_bill,
    "secrets": write_secrets,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m supply {' | '.join(COMMANDS)}")
    sys.exit(COMMANDS[sys.argv[1]]())
