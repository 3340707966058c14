"""The bill of materials of an installation, as CycloneDX JSON. cyclonedx-py lists the environment; the tools go."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from supply import ROOT
from supply.installed import packages


def write(file: Path) -> int:
    """Writes what `make serve` and a bucket need on this machine to ``file``, and returns how many packages that is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--output-reproducible", sys.executable]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bill = only(json.loads(said), set(packages()))
    file.write_text(json.dumps(bill, indent=2) + "\n")
    return len(bill["components"])


def only(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The bill with the packages of ``names`` alone (canonical names), and the dependencies among those."""
    kept = [one for one in bill["components"] if canonicalize_name(one["name"]) in names]
    refs = {one["bom-ref"] for one in kept} | {bill["metadata"]["component"]["bom-ref"]}
    among = [
        {**one, "dependsOn": [ref for ref in one["dependsOn"] if ref in refs]} if "dependsOn" in one else one
        for one in bill["dependencies"]
        if one["ref"] in refs
    ]
    return {**bill, "components": kept, "dependencies": among}
