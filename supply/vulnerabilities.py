"""pip-audit over constraints.txt: whether a pinned package has a published vulnerability.

pip-audit ends with "No known vulnerabilities found" and status 0 also where the index knows no package and no advisory,
as a mirror may. So it is asked about a package that is known to be vulnerable first: a source that does not say so
cannot clear ours, and nothing was audited. Then its report is read, not its status.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from supply import ROOT
from supply.outcome import Outcome, judged

ACCEPTED: dict[str, str] = {}
"""Advisory id -> why it does not touch kshot, or why nothing can be done yet; removed with the next update."""

_KNOWN_BAD = "urllib3==1.24.1"  # CVE-2019-11324 among others
_ANSWER_S = 10
_PATIENCE_S = 180


class Unanswered(Exception):
    """The index gave no advisories; the text says why."""


def check(pins: Path = ROOT / "constraints.txt") -> Outcome:
    """Asks the package index for advisories on every pin, for three minutes at most."""
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as control:
            control.write(_KNOWN_BAD)
            control.flush()
            if not any(package.get("vulns") for package in _asked(Path(control.name))):
                raise Unanswered(f"the index has no advisories, not even those of {_KNOWN_BAD}")
        return read(_asked(pins))
    except Unanswered as problem:
        return Outcome("vulnerabilities", "not done", f"nothing was audited: {problem}")


def read(packages: list[dict[str, Any]]) -> Outcome:
    """Judges pip-audit's list. A package that was not looked up is a finding, not a shrug."""
    found = [f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package]
    found += [
        f"{package['name']} {package['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'none yet'}"
        for package in packages
        for one in package.get("vulns", [])
        if not {one["id"], *one.get("aliases", [])} & set(ACCEPTED)
    ]
    return judged("vulnerabilities", found, f"none known in {len(packages)} packages")


def _asked(pins: Path) -> list[dict[str, Any]]:
    """What pip-audit reports on a file of pins. Raises Unanswered when it does not get that far."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", str(_ANSWER_S)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE_S)
        return list(json.loads(done.stdout)["dependencies"])
    except subprocess.TimeoutExpired:
        raise Unanswered(f"no answer within {_PATIENCE_S} s") from None
    except json.JSONDecodeError:
        raise Unanswered((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:300]) from None
