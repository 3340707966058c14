"""detect-secrets over every file of the work tree, against the reviewed `.secrets.baseline`.

The baseline holds the settings (which detectors, which lines are not looked at) and, as hashes, the findings that
somebody looked at and marked as no secrets. Nothing is asked over the network: to try a secret out is to send it.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from supply import ROOT
from supply.outcome import Outcome, judged

BASELINE = ROOT / ".secrets.baseline"


def check(root: Path = ROOT) -> Outcome:
    """Findings that nobody has marked as no secret (`"is_secret": false` in the baseline, `make secrets` adds them)."""
    try:
        files = tracked(root)
    except (OSError, subprocess.CalledProcessError) as error:
        return Outcome("secrets", "not done", f"git names no files: {error}")
    reviewed = SecretsCollection.load_from_baseline(_unmarked_left_out())
    fresh = found(root, files) - reviewed
    findings = [f"{secret.filename}:{secret.line_number} {secret.type}" for _, secret in fresh]
    return judged("secrets", findings if files else ["git names no files"], f"none in {len(files)} files")


def write() -> None:
    """Brings the baseline's findings up to date. Marks stay; what is new has none, so that somebody has to look."""
    secrets = found(ROOT, tracked(ROOT))
    recorded = _recorded()
    secrets.merge(SecretsCollection.load_from_baseline(recorded))
    BASELINE.write_text(json.dumps({**recorded, "results": secrets.json()}, indent=2) + "\n")


def found(root: Path, files: Iterable[str]) -> SecretsCollection:
    """Everything below ``root`` that looks like a secret to the baseline's detectors and filters."""
    settings = _recorded()
    for plugin in settings["plugins_used"]:
        if "path" in plugin:
            plugin["path"] = f"file://{ROOT / plugin['path'].removeprefix('file://')}"
    secrets = SecretsCollection(root=str(root))
    with transient_settings(settings):
        for file in files:
            if root / file != BASELINE:
                secrets.scan_file(file)
    return SecretsCollection.load_from_baseline({"results": _relative(secrets, root)})


def tracked(root: Path) -> list[str]:
    """Tracked files, and new ones that git would not ignore: a secret is cheapest to find before it is committed."""
    command = ["git", "-C", str(root), "-c", f"safe.directory={root}", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted(name for name in set(names) - {""} if (root / name).is_file())


def _relative(secrets: SecretsCollection, root: Path) -> dict[str, list[dict[str, Any]]]:
    """As JSON, with the paths of secrets relative to ``root`` too, as a baseline has them."""
    return {file: [{**secret, "filename": file} for secret in entries] for file, entries in secrets.json().items()}


def _recorded() -> dict[str, Any]:
    return dict(json.loads(BASELINE.read_text()))


def _unmarked_left_out() -> dict[str, Any]:
    recorded = _recorded()
    marked = {
        file: [entry for entry in entries if entry.get("is_secret") is False]
        for file, entries in recorded["results"].items()
    }
    return {**recorded, "results": marked}
