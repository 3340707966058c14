"""Results as JSON and as a Markdown table, with the command, the commit and the machine that gave them."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def record(stem: Path, title: str, figures: Sequence[Any]) -> None:
    """Write ``stem.json`` and ``stem.md``. ``figures``: dataclasses of one kind, a row each."""
    rows, origin = [asdict(figure) for figure in figures], about()
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps({"about": origin, "figures": rows}, indent=1) + "\n")
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in origin.items()), ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows]
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


def about() -> dict[str, Any]:
    """Where a result comes from: command, commit, date, machine, versions."""
    return {
        "command": command(),
        "commit": _COMMIT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("torch", "numpy", "scikit-learn")},
    }


def command() -> str:
    """The command line of this process, as it can be typed again."""
    return shlex.join(["python", "-m", _module(), *sys.argv[1:]])


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


_COMMIT = _commit()  # when the measurement starts: the checkout may move on while it runs


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    return "" if value is None else str(value)
