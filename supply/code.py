"""Bandit, for those of its checks that ruff does not have. `[tool.bandit]` in pyproject.toml names them.

Ruff's S rules are bandit's own, with the same numbers, and run with every `make lint`; running both over one line would
only want two marks for one reason. tests/supply holds that no check of bandit falls between the two.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supply import ROOT, SHIPPED
from supply.outcome import Outcome, judged

OURS = tuple(ROOT / room for room in SHIPPED)


def check(folders: Sequence[Path] = OURS) -> Outcome:
    """Findings in what ships. A line that must stay carries `# nosec B...` and says why."""
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", "--format", "json"]
    command += ["--configfile", str(ROOT / "pyproject.toml"), *map(str, folders)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        return Outcome("code", "failed", f"bandit ended with {done.returncode}: {done.stderr.strip()}")
    return _judged(json.loads(done.stdout))


def _judged(report: dict[str, Any]) -> Outcome:
    findings = [
        f"{found['filename']}:{found['line_number']} {found['test_id']} {found['issue_text']}"
        for found in report["results"]
    ]
    findings += [f"{error['filename']} could not be read: {error['reason']}" for error in report["errors"]]
    files = len(report["metrics"]) - 1  # the last is the sum
    if not files:
        findings.append("no file was looked at")
    return judged("code", findings, f"bandit looked at {files} files")
